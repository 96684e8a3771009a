/**
 * Checks of a Linux guest under `stillpoint run`: its clocks, its size, its work and its boot log. Each throws what is
 * wrong.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Guests } from '../../scripts/lib/guests.js';
import { inRoot } from '../../scripts/lib/root.js';
import { Session } from '../support/session.js';
import { differences } from './dmesg.js';

export const PROMPT = /guest# /;
/** A kernel option that disables the code for suspend requests. */
export const WILD = 'initcall_blacklist=xen_setup_shutdown_event';
/** The number of parallel jobs, and the bytes that each of them compresses and decompresses. */
const JOBS = 40;
const JOB_BYTES = 100_000;

export interface Shape {
  readonly memory: number;
  readonly vcpus: number;
  readonly wild?: boolean;
}

/** Starts `stillpoint run` with Debian's kernel; the guest has not reached its prompt yet. */
export const start = (guests: Guests, { memory, vcpus, wild }: Shape, ...options: string[]): Session =>
  new Session([
    ...['--kernel', guests.vmlinuz, '--ramdisk', guests.initramfs],
    ...['--extra', `console=hvc0 loglevel=4 ${wild ? WILD : ''} rdinit=/init`],
    ...['--memory', String(memory), '--vcpus', String(vcpus), ...options],
  ]);

const seconds = (text: string): number => Number(/[\d.]+/.exec(text)![0]);

/**
 * Compares the guest's clocks with one another and with ours. `began`: when the guest was switched on, by Date.now().
 */
export async function keepsTime(guest: Session, began: number): Promise<void> {
  const bootS = (Date.now() - began) / 1000;
  const before = seconds(await guest.command('cat /proc/uptime'));
  const asked = Date.now() / 1000;
  const epoch = Number(await guest.command('date +%s'));
  const answered = Date.now() / 1000;
  // Until it has chosen its clock source, Linux counts ticks, and it misses those for which a busy host does not run
  // it.
  assert.ok(epoch > asked - bootS - 2, `date says ${epoch}, ${asked - epoch} s too early`);
  assert.ok(epoch < answered + 2, `date says ${epoch}, ${epoch - answered} s too late`);
  const after = seconds(await guest.command('sleep 2; cat /proc/uptime'));
  assert.ok(after - before >= 2, `slept 2 s in ${after - before} s of uptime`);
  assert.equal(await guest.command('date -u -d @86400 +%Y-%m-%dT%H:%M:%S'), '1970-01-02T00:00:00\n');
}

/** Checks that every source, top(1) included, reports the processors and the memory that the guest was given. */
export async function hasItsSize(guest: Session, { memory, vcpus }: Shape): Promise<void> {
  assert.equal(await guest.command('grep -c ^processor /proc/cpuinfo'), `${vcpus}\n`);
  const kib = seconds(await guest.command('grep MemTotal /proc/meminfo'));
  // The kernel reserves memory for its own image, its tables and the ramdisk.
  assert.ok(kib < memory * 1024 && kib > memory * 960 - 60_000, `MemTotal ${kib} KiB of ${memory} MiB`);
  const top = await guest.command('top -b -n 1');
  assert.match(top, /^Mem: \d+K used, \d+K free/);
  assert.match(top, /CPU: +\d+% usr +\d+% sys/);
  assert.match(top, /^ +1 +0 +(0|root) .*init/m);
}

/** Runs forty jobs at a time and checks the result of each. */
export async function worksInParallel(guest: Session): Promise<void> {
  await guest.command(`head -c ${JOB_BYTES} /bin/busybox > /tmp/data`);
  const digest = await guest.command('md5sum < /tmp/data');
  await guest.command(
    `for i in $(seq ${JOBS}); do (gzip < /tmp/data | gunzip | md5sum > /tmp/sum.$i) & done; wait`,
  );
  assert.equal(await guest.command('cat /tmp/sum.* | sort | uniq -c'), `     ${JOBS} ${digest}`);
}

const REFERENCE = inRoot('test/reference/linux-6.1-dmesg-on-xen-4.17.txt');
/** Lines that depend on the number of processors, on the amount of memory, or on a disabled part of the kernel. */
const OF_ITS_SHAPE: readonly RegExp[] = [
  /^(smp|smpboot|rcu|cpu \d|installing Xen timer for CPU|cpu: Bringing up|x86: Booting|\.\.\.|node|Brought up)/i,
  /^(setup_percpu|percpu|pcpu-alloc|SLUB|Total of|NR_IRQS|random|SMP|CPU\d|cpuidle)/i,
  /^( +(DMA|DMA#|Normal|Movable|node)|On node|Memory:|Initmem|Early memory|Movable zone|BIOS|\[mem|last_pfn|e#+)/i,
  /^(Dentry|Inode-cache|Mount-cache|Mountpoint-cache|hash|TCP|UDP|futex|IP idents|workingset|software IO TLB|Built)/i,
  /^(initcall|blacklisting initcall)/i,
  // These appear with several processors: locks that ask Xen, and code that could still be patched for one processor.
  /^(xen: PV spinlocks|PV qspinlock|cpu # spinlock event irq|Freeing SMP alternatives memory)/,
  // This appears on a busy host.
  /^hrtimer: interrupt took/,
];
const TROUBLE = /WARNING:|BUG:|Oops|Call Trace|rcu.*stall|soft lockup|hung_task|Unable to handle/;

/**
 * Compares the boot log with that of a Linux on real Xen, apart from lines that depend on its shape, and looks for
 * errors.
 */
export async function saysWhatItSaysOnXen(guest: Session): Promise<void> {
  const log = await guest.command('dmesg');
  assert.doesNotMatch(log, TROUBLE);
  const { missing, added } = differences(readFileSync(REFERENCE, 'latin1'), log);
  const odd = (lines: string[]): string[] => lines.filter((line) => !OF_ITS_SHAPE.some((p) => p.test(line)));
  assert.deepEqual({ missing: odd(missing), added: odd(added) }, { missing: [], added: [] });
}

/** Identifies the present power cycle of the guest's Linux. */
export const bootId = (guest: Session): Promise<string> =>
  guest.command('cat /proc/sys/kernel/random/boot_id');

/** Types what ends the guest, and waits for the prompt of the next power cycle. */
export async function comesBack(guest: Session, typed: string): Promise<void> {
  const before = await bootId(guest);
  guest.type(`${typed}\n`);
  await guest.expect(PROMPT);
  await guest.expect(PROMPT);
  assert.notEqual(await bootId(guest), before);
  const uptime = seconds(await guest.command('cat /proc/uptime'));
  assert.ok(uptime < 600, `up for ${uptime} s already`);
}
