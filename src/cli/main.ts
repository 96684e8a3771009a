#!/usr/bin/env node
/** The command line. Each verb lives in commands/, one file each. */
import { Command } from 'commander';
import * as run from './commands/run.js';
import * as xenstored from './commands/xenstored.js';

const program = new Command('stillpoint')
  .description('Runs Xen PV guests without Xen, and moves them live between hosts without their help')
  .version('0.1.0')
  .showHelpAfterError();

run.register(program);
xenstored.register(program);
await program.parseAsync();
