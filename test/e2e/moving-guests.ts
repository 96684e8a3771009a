/** Real guests for tests of moves: GRUB, and Debian's kernel with the observer and the memory writer in its initramfs. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ramdiskWithPrograms } from '../../scripts/lib/daemons.js';
import { ensureGuests } from '../../scripts/lib/guests.js';
import { VERDICT, type Verdict, verdictIn } from '../../src/demo/verdict.js';
import type { MoveStats } from '../../src/protocol/moves.js';
import type { TestHost, TwoHosts } from '../migration/hosts.js';
import { orSkipped } from '../support/debian.js';

/** The guests' files; undefined where Debian's packages are not available. */
export const guestFiles = await orSkipped('moves of real guests', ensureGuests());

/** A kernel option that disables the code for suspend requests. */
export const WILD = 'initcall_blacklist=xen_setup_shutdown_event';

export interface LinuxOptions {
  readonly name: string;
  readonly vcpus?: number;
  readonly memoryMib?: number;
  /** Additional words for its command line. */
  readonly extra?: string;
  /** Additional lines for its configuration. */
  readonly configLines?: string;
}

/** Creates a Linux guest on `host`. Resolves when the guest is at its shell. */
export async function bootLinux(hosts: TwoHosts, host: TestHost, options: LinuxOptions): Promise<void> {
  const { name, vcpus = 1, memoryMib = 128, extra = '', configLines = '' } = options;
  const ramdisk = join(hosts.root, 'ramdisk');
  writeFileSync(ramdisk, ramdiskWithPrograms(guestFiles!.initramfs));
  const config = `
    name = "${name}"
    kernel = "${guestFiles!.vmlinux}"
    ramdisk = "${ramdisk}"
    memory = ${memoryMib}
    vcpus = ${vcpus}
    extra = "console=hvc0 rdinit=/init quiet ${extra}"
    ${configLines}\n`;
  await host.ask('create', { config, file: `${name}.cfg`, directory: hosts.root });
  await host.consoleOf(name, '', /guest# /, 400);
}

export async function bootGrub(hosts: TwoHosts, host: TestHost, name: string): Promise<void> {
  const config = `name = "${name}"\nkernel = "${guestFiles!.grub}"\nmemory = 64\n`;
  await host.ask('create', { config, file: `${name}.cfg`, directory: hosts.root });
  await host.consoleOf(name, '', /grub> /, 100);
}

/** Asks the observer in the guest for its verdict. */
export async function verdictOf(host: TestHost, name: string): Promise<Verdict> {
  const line = new RegExp(VERDICT, 'g');
  const before = [...(await host.consoleOf(name, '', /^/)).matchAll(line)].length;
  const text = await host.consoleOf(name, 'v\n', new RegExp(`(${line.source}[\\s\\S]*){${before + 1}}`), 300);
  return verdictIn([...text.matchAll(line)].at(-1)!);
}

/** Moves a guest back and forth. Returns the statistics of each move, and the host on which the guest is in the end. */
export async function moveToAndFro(
  hosts: TwoHosts,
  name: string,
  moves: number,
  options: object = {},
): Promise<{ stats: MoveStats[]; at: TestHost }> {
  const stats: MoveStats[] = [];
  let [from, to] = [hosts.a, hosts.b];
  for (let i = 0; i < moves; i++) {
    stats.push(await from.ask('migrate', { guest: name, host: to.name, ...options }));
    [from, to] = [to, from];
  }
  return { stats, at: from };
}
