/** Runs one guest in the foreground, power cycle by power cycle: `stillpoint run`. */

import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { BOOT_LOADER } from '../guest/boot-loader.js';
import { KernelError } from '../guest/kernel-error.js';
import { parseVif, type VifSpec } from '../guest/vif-spec.js';
import { ConfigError } from '../guest/xl-cfg.js';
import {
  firstKernel,
  guestSpec,
  kernelFile,
  loadedSpec,
  readGuestConfig,
  vifConfig,
} from '../guest-process/device-requests.js';
import type { GuestSpec } from '../helper/guest.js';
import { crashText } from '../hypervisor/crash-report.js';
import { DEFAULT_NETWORK, parseLinkAddress } from '../net/links/address.js';
import type { GuestConfig } from '../protocol/guest-config.js';
import type { EndAction, RunOptions } from './commands/run.js';
import { BadInput, Foreground, type Outcome, openLog } from './foreground.js';
import { printNote } from './print-note.js';

/** Exit statuses of `run`. */
const EXIT_POWEROFF = 0;
const EXIT_BAD_INPUT = 2;
const EXIT_CRASH = 10;
const EXIT_TIMEOUT = 11;
const EXIT_LEFT = 12;

/** Lines of console output in the report of a crash. */
const LAST_LINES = 20;

/** Resolves with the exit status. */
export async function runInForeground(file: string | undefined, options: RunOptions): Promise<number> {
  try {
    return await run(file, options);
  } catch (error) {
    if (!(error instanceof BadInput || error instanceof ConfigError)) throw error;
    printNote(error.message);
    return EXIT_BAD_INPUT;
  }
}

async function run(file: string | undefined, options: RunOptions): Promise<number> {
  const config = configuration(file, options);
  // The files are read again for each power cycle: in between they would only take memory.
  const files = (): GuestSpec => {
    const { image: kernel, missing } = firstKernel(config, read('kernel', kernelFile(config.kernel)));
    if (missing !== undefined) printNote(missing);
    const ramdisk = config.ramdisk === '' ? undefined : read('ramdisk', config.ramdisk);
    return guestSpec(config, kernel, ramdisk);
  };
  const { consoleLog, timeout } = options;
  const log = consoleLog === undefined ? undefined : given('console log', consoleLog, openLog);
  const deadline = timeout === undefined ? undefined : performance.now() + timeout * 1000;
  const networks = networksOf(options.network ?? []);
  const { deterministic, profile } = options;
  const foreground = new Foreground({ log, deadline, deterministic, networks, profile });
  try {
    let loaded: GuestSpec | undefined;
    for (;;) {
      const spec = loaded;
      loaded = undefined;
      const outcome = await foreground.cycle(
        () => spec ?? files(),
        spec === undefined && config.kernel === BOOT_LOADER,
      );
      if (outcome.kind === 'handed-over') {
        loaded = loadedSpec(config, outcome.image);
        continue;
      }
      const end = after(outcome, foreground.output, config);
      if (end.action === 'restart') continue;
      if (end.action === 'preserve') {
        process.stderr.write('stillpoint: the stopped guest is kept; Ctrl-] or a signal ends it\n');
        await foreground.hold();
      }
      return end.status;
    }
  } catch (error) {
    throw error instanceof KernelError ? new BadInput(`kernel ${config.kernel}: ${error.message}`) : error;
  } finally {
    foreground.close();
  }
}

/** What follows an end; in the foreground no core is written. */
function withoutCore(action: GuestConfig['onCrash']): EndAction {
  if (action !== 'coredump-destroy' && action !== 'coredump-restart') return action;
  process.stderr.write(`stillpoint: ${action}: run writes no core; create and dump-core do\n`);
  return action === 'coredump-destroy' ? 'destroy' : 'restart';
}

/** What to do after a power cycle, and the exit status if nothing follows. Prints what has to be reported. */
function after(
  outcome: Exclude<Outcome, { kind: 'handed-over' }>,
  output: Buffer,
  config: GuestConfig,
): { action: EndAction; status: number } {
  switch (outcome.kind) {
    case 'poweroff':
      return { action: withoutCore(config.onPoweroff), status: EXIT_POWEROFF };
    case 'reboot':
      return { action: withoutCore(config.onReboot), status: EXIT_POWEROFF };
    case 'timeout':
      process.stderr.write('stillpoint: time-out, the guest was ended\n');
      return { action: 'destroy', status: EXIT_TIMEOUT };
    case 'left':
      return { action: 'destroy', status: EXIT_LEFT };
    case 'crash': {
      const lines = output.toString('latin1').split(/\r?\n/);
      const last = lines.slice(-LAST_LINES).map((line) => `  ${line.replace(/[^\x20-\x7e\t]/g, '?')}\n`);
      process.stderr.write(
        `stillpoint: the guest crashed\n${crashText(outcome.report)}` +
          `last lines on the console:\n${last.join('')}`,
      );
      return { action: withoutCore(config.onCrash), status: EXIT_CRASH };
    }
  }
}

/** The guest's configuration: from the file or from defaults, with the options taking precedence. */
function configuration(file: string | undefined, options: RunOptions): GuestConfig {
  // A deterministic guest without a configured uuid gets one that is derived from its name, so that it is always the
  // same.
  const makeUuid = options.deterministic ? uuidOf : () => randomUUID();
  if (file === undefined && options.kernel === undefined)
    throw new BadInput('a configuration file or --kernel is expected');
  const base = file === undefined ? plain(options.name ?? 'guest', makeUuid) : fromFile(file, makeUuid);
  const memoryKib = options.memory === undefined ? base.memoryKib : options.memory * 1024;
  const vifs = (options.vif ?? []).map((vif, i) =>
    vifConfig(readVif(vif), base.devices.length + i, base.uuid),
  );
  return {
    ...base,
    devices: [...base.devices, ...vifs],
    name: options.name ?? base.name,
    vcpus: options.vcpus ?? base.vcpus,
    onlineVcpus: options.vcpus === undefined ? base.onlineVcpus : undefined,
    memoryKib,
    maxMemoryKib: options.memory === undefined ? base.maxMemoryKib : memoryKib,
    kernel: options.kernel ?? base.kernel,
    ramdisk: options.ramdisk ?? base.ramdisk,
    cmdline: options.extra ?? base.cmdline,
    onPoweroff: options.onPoweroff ?? base.onPoweroff,
    onReboot: options.onReboot ?? base.onReboot,
    onCrash: options.onCrash ?? base.onCrash,
  };
}

const plain = (name: string, makeUuid: (name: string) => string): GuestConfig => ({
  name,
  uuid: makeUuid(name),
  vcpus: 1,
  memoryKib: 128 * 1024,
  maxMemoryKib: 128 * 1024,
  kernel: '',
  ramdisk: '',
  cmdline: '',
  onPoweroff: 'destroy',
  onReboot: 'restart',
  onCrash: 'destroy',
  clock: 'elapse',
  devices: [],
  more: {},
});

function fromFile(file: string, makeUuid: (name: string) => string): GuestConfig {
  const text = given('configuration', file, (name) => readFileSync(name, 'utf8'));
  const config = readGuestConfig(text, file, process.cwd(), makeUuid);
  for (const warning of config.more.warnings as string[]) printNote(warning);
  return config;
}

/** A uuid (version 8, RFC 9562) that is derived from a name. */
function uuidOf(name: string): string {
  const hash = createHash('sha256').update(name).digest();
  hash[6] = (hash[6] & 0x0f) | 0x80;
  hash[8] = (hash[8] & 0x3f) | 0x80;
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const readVif = (spec: string): VifSpec =>
  parseVif(
    spec,
    (message) => {
      throw new BadInput(message);
    },
    printNote,
  );

/** "BRIDGE=LINK", or "LINK" for vifs that name no bridge. */
function networksOf(given: readonly string[]): Record<string, string> {
  const networks: Record<string, string> = {};
  for (const text of given) {
    const [, name = DEFAULT_NETWORK, link] = /^(?:([^=:]+)=)?(.*)$/s.exec(text)!;
    try {
      parseLinkAddress(link);
    } catch (error) {
      throw new BadInput((error as Error).message);
    }
    networks[name] = link;
  }
  return networks;
}

const read = (what: string, file: string): Uint8Array => given(what, file, (name) => readFileSync(name));

/** Performs an operation on a file that the user named; an error message contains that name. */
function given<T>(what: string, file: string, use: (file: string) => T): T {
  try {
    return use(path.resolve(file));
  } catch (error) {
    throw new BadInput(`${what} ${file}: ${(error as Error).message}`);
  }
}
