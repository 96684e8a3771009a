#!/usr/bin/env node
/** The command line. Each verb lives in commands/, one file each. */
import { Command } from 'commander';

const program = new Command('stillpoint')
  .description('Runs Xen PV guests without Xen, and moves them live between hosts without their help')
  .version('0.1.0')
  .showHelpAfterError();

await program.parseAsync();
