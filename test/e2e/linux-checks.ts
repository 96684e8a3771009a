/** What is looked at in a Linux that a person runs: its clocks, its size, its work, its boot log. Throws what is wrong. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Guests } from '../../scripts/lib/guests.js';
import { inRoot } from '../../scripts/lib/root.js';
import { Session } from '../support/session.js';
import { differences } from './dmesg.js';

export const PROMPT = /guest# /;
/** Without the code for a suspend. */
export const WILD = 'initcall_blacklist=xen_setup_shutdown_event';
/** Jobs at a time, and the bytes that each packs and unpacks. */
const JOBS = 40;
const JOB_BYTES = 100_000;

export interface Shape {
  readonly memory: number;
  readonly vcpus: number;
  readonly wild?: boolean;
}

/** `stillpoint run` of Debian's kernel; not yet at its prompt. */
export const start = (guests: Guests, { memory, vcpus, wild }: Shape, ...options: string[]): Session =>
  new Session([
    ...['--kernel', guests.vmlinuz, '--ramdisk', guests.initramfs],
    ...['--extra', `console=hvc0 loglevel=4 ${wild ? WILD : ''} rdinit=/init`],
    ...['--memory', String(memory), '--vcpus', String(vcpus), ...options],
  ]);

const seconds = (text: string): number => Number(/[\d.]+/.exec(text)![0]);

/** Its clocks against each other, and against ours. `began`: when it was switched on, by Date.now(). */
export async function keepsTime(guest: Session, began: number): Promise<void> {
  const bootS = (Date.now() - began) / 1000;
  const before = seconds(await guest.command('cat /proc/uptime'));
  const asked = Date.now() / 1000;
  const epoch = Number(await guest.command('date +%s'));
  const answered = Date.now() / 1000;
  // Until it has its clock source Linux counts ticks, and misses those that a busy machine withholds.
  assert.ok(epoch > asked - bootS - 2, `date says ${epoch}, ${asked - epoch} s too early`);
  assert.ok(epoch < answered + 2, `date says ${epoch}, ${epoch - answered} s too late`);
  const after = seconds(await guest.command('sleep 2; cat /proc/uptime'));
  assert.ok(after - before >= 2, `slept 2 s in ${after - before} s of uptime`);
  assert.equal(await guest.command('date -u -d @86400 +%Y-%m-%dT%H:%M:%S'), '1970-01-02T00:00:00\n');
}

/** As many processors and as much memory as it was given, by all that tell, and top(1) at that. */
export async function hasItsSize(guest: Session, { memory, vcpus }: Shape): Promise<void> {
  assert.equal(await guest.command('grep -c ^processor /proc/cpuinfo'), `${vcpus}\n`);
  const kib = seconds(await guest.command('grep MemTotal /proc/meminfo'));
  // The kernel keeps its own image, its tables and the ramdisk for itself.
  assert.ok(kib < memory * 1024 && kib > memory * 960 - 60_000, `MemTotal ${kib} KiB of ${memory} MiB`);
  const top = await guest.command('top -b -n 1');
  assert.match(top, /^Mem: \d+K used, \d+K free/);
  assert.match(top, /CPU: +\d+% usr +\d+% sys/);
  assert.match(top, /^ +1 +0 +(0|root) .*init/m);
}

/** Forty at a time, each of them right. */
export async function worksInParallel(guest: Session): Promise<void> {
  await guest.command(`head -c ${JOB_BYTES} /bin/busybox > /tmp/data`);
  const digest = await guest.command('md5sum < /tmp/data');
  await guest.command(
    `for i in $(seq ${JOBS}); do (gzip < /tmp/data | gunzip | md5sum > /tmp/sum.$i) & done; wait`,
  );
  assert.equal(await guest.command('cat /tmp/sum.* | sort | uniq -c'), `     ${JOBS} ${digest}`);
}

const REFERENCE = inRoot('test/reference/linux-6.1-dmesg-on-xen-4.17.txt');
/** What a kernel says that has more than one processor, or more memory than 128 MB, or a part of it switched off. */
const OF_ITS_SHAPE: readonly RegExp[] = [
  /^(smp|smpboot|rcu|cpu \d|installing Xen timer for CPU|cpu: Bringing up|x86: Booting|\.\.\.|node|Brought up)/i,
  /^(setup_percpu|percpu|pcpu-alloc|SLUB|Total of|NR_IRQS|random|SMP|CPU\d|cpuidle)/i,
  /^( +(DMA|DMA#|Normal|Movable|node)|On node|Memory:|Initmem|Early memory|Movable zone|BIOS|\[mem|last_pfn|e#+)/i,
  /^(Dentry|Inode-cache|Mount-cache|Mountpoint-cache|hash|TCP|UDP|futex|IP idents|workingset|software IO TLB|Built)/i,
  /^(initcall|blacklisting initcall)/i,
  // Of several processors: locks that ask Xen, and code that could still be patched for one.
  /^(xen: PV spinlocks|PV qspinlock|cpu # spinlock event irq|Freeing SMP alternatives memory)/,
  // Of a busy machine.
  /^hrtimer: interrupt took/,
];
const TROUBLE = /WARNING:|BUG:|Oops|Call Trace|rcu.*stall|soft lockup|hung_task|Unable to handle/;

/** Its boot log has nothing that a Linux of another shape on real Xen has not, and no trouble. */
export async function saysWhatItSaysOnXen(guest: Session): Promise<void> {
  const log = await guest.command('dmesg');
  assert.doesNotMatch(log, TROUBLE);
  const { missing, added } = differences(readFileSync(REFERENCE, 'latin1'), log);
  const odd = (lines: string[]): string[] => lines.filter((line) => !OF_ITS_SHAPE.some((p) => p.test(line)));
  assert.deepEqual({ missing: odd(missing), added: odd(added) }, { missing: [], added: [] });
}

/** Which power cycle of Linux this is. */
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
