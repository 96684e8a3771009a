#!/usr/bin/env node
import { EXIT_STATUS } from '../protocol/failure.js';
import { makeProgram } from './program.js';

await makeProgram((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_STATUS.usage)).parseAsync();
