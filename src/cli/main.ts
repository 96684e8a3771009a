#!/usr/bin/env node
import { EXIT_STATUS } from '../protocol/failure.js';
import { runAsXl, xlWords } from './commands/xl.js';
import { makeProgram } from './program.js';

// The options of xl are its own: none of them is one of this program.
const words = xlWords(process.argv);
if (words !== undefined) await runAsXl(words);
else await makeProgram((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_STATUS.usage)).parseAsync();
