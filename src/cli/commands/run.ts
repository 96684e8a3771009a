/** `stillpoint run`: one guest in the foreground, on this terminal. */

import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { type GuestEnd, guestLoop } from '../../daemon/guest-loop.js';
import { KernelError } from '../../guest/kernel-error.js';
import { Guest, type GuestSpec } from '../../helper/guest.js';
import { uuidBytes } from '../../helper/uuid.js';
import { hostAlone } from '../../host/standalone/alone.js';
import { Terminal } from '../../host/standalone/terminal.js';

/** Exit statuses of `run`. */
const EXIT_POWEROFF = 0;
const EXIT_BAD_INPUT = 2;
const EXIT_CRASH = 10;
const EXIT_TIMEOUT = 11;
const EXIT_LEFT = 12;

/** Console output kept for the report of a crash, in bytes. */
const LAST_OUTPUT_BYTES = 4096;

const whole =
  (low: number, high: number) =>
  (value: string): number => {
    const n = Number(value);
    if (!Number.isInteger(n) || n < low || n > high)
      throw new InvalidArgumentError(`a whole number from ${low} to ${high} is expected.`);
    return n;
  };

interface Options {
  kernel: string;
  ramdisk?: string;
  extra: string;
  name: string;
  memory: number;
  vcpus: number;
  consoleLog?: string;
  timeout?: number;
  deterministic?: boolean;
  onReboot: 'restart' | 'destroy';
}

type Outcome = GuestEnd | { readonly kind: 'timeout' | 'left' };

export function register(program: Command): void {
  program
    .command('run')
    .description('run one guest in the foreground (Ctrl-] leaves and ends it)')
    .requiredOption('--kernel <file>', 'ELF or bzImage with Xen notes')
    .option('--ramdisk <file>', 'initial ramdisk')
    .option('--extra <text>', 'kernel command line', '')
    .option('--name <name>', 'name of the guest', 'guest')
    .option('--memory <MiB>', 'memory in MiB', whole(4, 3000), 128)
    .option('--vcpus <n>', 'virtual processors', whole(1, 8), 1)
    .option('--console-log <file>', 'append all console output to this file')
    .option('--timeout <s>', 'end the guest after so many seconds (exit status 11)', whole(1, 1e9))
    .option('--deterministic', 'time counts instructions, 1 ns each')
    .option('--on-reboot <action>', 'restart or destroy', 'restart')
    .addHelpText(
      'after',
      '\nExit status: 0 the guest powered off, 10 it crashed, 11 time-out, 12 left with Ctrl-], 2 bad input.',
    )
    .action(async (options: Options) => {
      process.exitCode = await run(options);
    });
}

async function read(what: string, file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new KernelError(`${what} ${file}: ${(error as Error).message}`);
  }
}

async function run(options: Options): Promise<number> {
  try {
    const kernel = await read('kernel', options.kernel);
    const ramdisk = options.ramdisk === undefined ? undefined : await read('ramdisk', options.ramdisk);
    const spec: GuestSpec = {
      name: options.name,
      uuid: uuidBytes(randomUUID()),
      memoryMib: options.memory,
      vcpus: options.vcpus,
      image: { kernel, ramdisk, cmdline: options.extra },
      kernelName: basename(options.kernel),
      ramdiskName: options.ramdisk === undefined ? '' : basename(options.ramdisk),
      nsPerInstruction: options.deterministic === true ? 1 : undefined,
    };
    const deadline = options.timeout === undefined ? undefined : performance.now() + options.timeout * 1000;
    for (;;) {
      const outcome = await powerCycle(spec, options, deadline);
      switch (outcome.kind) {
        case 'reboot':
          if (options.onReboot === 'restart') continue;
          return EXIT_POWEROFF;
        case 'poweroff':
          return EXIT_POWEROFF;
        case 'timeout':
          process.stderr.write('stillpoint: time-out, the guest was ended\n');
          return EXIT_TIMEOUT;
        case 'left':
          return EXIT_LEFT;
        case 'crash':
          process.stderr.write(`stillpoint: the guest crashed: ${outcome.reason}\n`);
          process.stderr.write(`${JSON.stringify(outcome.report, null, 1)}\n`);
          return EXIT_CRASH;
      }
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    process.stderr.write(`stillpoint: ${error.message}\n`);
    return EXIT_BAD_INPUT;
  }
}

/** From power-on to the end of one cycle. */
async function powerCycle(spec: GuestSpec, options: Options, deadline: number | undefined): Promise<Outcome> {
  const log =
    options.consoleLog === undefined ? undefined : createWriteStream(options.consoleLog, { flags: 'a' });
  let last = Buffer.alloc(0);
  let terminal: Terminal | undefined;
  let kick: () => void = () => undefined;
  const guest = await Guest.powerOn(spec, hostAlone('run'), {
    console: (output) => {
      log?.write(output);
      last = Buffer.concat([last, output]).subarray(-LAST_OUTPUT_BYTES);
      return terminal?.write(output) ?? true;
    },
    log: (line) => process.stderr.write(`(XEN) ${line}\n`),
    wake: () => kick(),
  });
  await guest.attach();
  let timer: NodeJS.Timeout | undefined;
  let stop: () => void = () => undefined;
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      const loop = guestLoop(guest, resolve, reject);
      terminal = new Terminal({
        onInput: (bytes) => {
          const taken = guest.console.type(bytes);
          loop.kick();
          return taken;
        },
        onEscape: () => resolve({ kind: 'left' }),
        onDrain: () => {
          guest.console.drained();
          loop.kick();
        },
      });
      if (deadline !== undefined)
        timer = setTimeout(() => resolve({ kind: 'timeout' }), Math.max(0, deadline - performance.now()));
      guest.start();
      loop.start();
      stop = () => loop.stop();
      kick = () => loop.kick();
    });
  } finally {
    clearTimeout(timer);
    stop();
    await guest.detach();
    terminal?.close();
    log?.end();
  }
}
