/** `stillpoint run`: one guest in the foreground, on this terminal or on pipes. */
import type { Command } from 'commander';
import { LIMITS } from '../../guest/config.js';
import { MAX_TIMEOUT_S, oneOf, whole } from '../arguments.js';

export interface RunOptions {
  kernel?: string;
  ramdisk?: string;
  extra?: string;
  name?: string;
  memory?: number;
  vcpus?: number;
  consoleLog?: string;
  timeout?: number;
  deterministic?: boolean;
  profile?: boolean;
  onPoweroff?: EndAction;
  onReboot?: EndAction;
  onCrash?: EndAction;
  vif?: string[];
  network?: string[];
}

/** What may follow the end of a guest. */
export type EndAction = 'destroy' | 'restart' | 'preserve';

const collect = (value: string, all: string[] = []): string[] => [...all, value];

const endAction = oneOf<EndAction>('destroy', 'restart', 'preserve');

export function register(program: Command): void {
  program
    .command('run')
    .argument('[file]', 'configuration of the guest (xl.cfg)')
    .description('run one guest in the foreground (Ctrl-] leaves and ends it)')
    .option('--kernel <file>', 'ELF or bzImage with Xen notes')
    .option('--ramdisk <file>', 'initial ramdisk')
    .option('--extra <text>', 'kernel command line')
    .option('--name <name>', 'name of the guest')
    .option('--memory <MiB>', 'memory in MiB (128)', whole(1, LIMITS.maxMemoryMib))
    .option('--vcpus <n>', 'virtual processors (1)', whole(1, LIMITS.maxVcpus))
    .option('--on-poweroff <action>', 'destroy, restart or preserve (destroy)', endAction)
    .option('--on-reboot <action>', 'destroy, restart or preserve (restart)', endAction)
    .option('--on-crash <action>', 'destroy, restart or preserve (destroy)', endAction)
    .option('--vif <spec>', "a network interface, in xl's syntax; may be given several times", collect)
    .option(
      '--network <link>',
      '[BRIDGE=]LINK: what vifs connect to (docs/networks.md); several times',
      collect,
    )
    .option('--console-log <file>', 'append all console output to this file')
    .option('--timeout <s>', 'end the guest after so many seconds', whole(1, MAX_TIMEOUT_S))
    .option('--deterministic', 'time counts instructions, 1 ns each; nothing of the host reaches the guest')
    .option('--profile', 'afterwards, tell where the guest spent its instructions (docs/translator.md)')
    .addHelpText(
      'after',
      `
Give a configuration, or --kernel. Options count more than the configuration's settings.
Exit status: 0 the guest powered off, 10 it crashed, 11 time-out, 12 left with Ctrl-], 2 bad input.`,
    )
    .action(async (file: string | undefined, options: RunOptions) => {
      // It takes the whole machine in, which no other verb needs.
      const { runInForeground } = await import('../run-guest.js');
      process.exitCode = await runInForeground(file, options);
    });
}
