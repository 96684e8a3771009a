// npm run bench -- disk [--json]: what a guest's disk costs.
//   Without a guest: the back end with a raw file in the page cache, driven by a front end in the same thread, with
//   random 4 KiB requests, 32 in flight, and sequential 1 MiB requests. Each is compared with the same reads and
//   writes by plain system calls, one after another, in the same run.
//   In the guest (Debian's kernel): dd without the guest's page cache, by the guest's own clock: throughput of 1 MiB
//   requests; rate and latency of 4 KiB requests, one at a time. This part needs .cache/guests.
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../scripts/lib/errors.js';
import { FileLink } from '../src/host/disk/file-link.js';
import { E2fsprogs } from '../test/disk/e2fsprogs.js';
import { LinuxGuest } from '../test/disk/linux-guest.js';
import { BlockFront, FrontMemory } from '../test/support/block-front.js';
import { median, report } from './harness.js';

const MIB = 1024 * 1024;
const FILE_MIB = 128;
const READ = 0;
const WRITE = 1;
const seconds = Number(process.env.STILLPOINT_BENCH_SECONDS ?? 2);
// The threads of a link do not keep a process alive.
setInterval(() => undefined, 1000);
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-bench-'));
const path = join(dir, 'disk.img');
const fd = openSync(path, 'w+');
ftruncateSync(fd, FILE_MIB * MIB);
for (let i = 0; i < FILE_MIB; i++) writeSync(fd, Buffer.alloc(MIB, i), 0, MIB, i * MIB);

/**
 * Makes requests of `pages` pages for `ms` ms with `depth` in flight, more than one ring holds. Returns requests a
 * second.
 */
async function drive(operation: number, pages: number, depth: number, ms: number): Promise<number> {
  const memory = new FrontMemory(32 + depth * (pages + 1) + 1);
  const front = new BlockFront(memory, { order: 2 });
  const link = await FileLink.open({ path, readOnly: false, discard: false });
  front.plug(link).connect();
  memory.granted.fill(1, front.dataPage);
  const slots = Array.from({ length: depth }, (_, i) => {
    const base = front.dataPage + i * (pages + 1);
    const segments = Array.from({ length: pages }, (_, k) => ({ ref: base + k, first: 0, last: 7 }));
    return { segments, list: base + pages };
  });
  const total = (FILE_MIB * MIB) / 512;
  let done = 0;
  let next = 0;
  let seed = 1;
  const sector = () => {
    if (pages > 11) return (next = (next + pages * 8) % total);
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed % (total / 8)) * 8;
  };
  const issue = (slot: number): void => {
    const { segments, list } = slots[slot];
    if (pages > 11) front.indirect(operation, BigInt(slot), sector(), segments, [list]);
    else front.request(operation, BigInt(slot), sector(), segments);
  };
  const begin = performance.now();
  await new Promise<void>((resolve) => {
    memory.onEvent = () => {
      for (const r of front.responses()) {
        if (r.status !== 0) throw new Error('a request failed');
        done++;
        if (performance.now() - begin < ms) issue(Number(r.id));
        else if (--depth === 0) resolve();
      }
      front.push();
    };
    for (let i = slots.length - 1; i >= 0; i--) issue(i);
    front.push();
  });
  const rate = done / ((performance.now() - begin) / 1000);
  await front.bus.pause();
  await link.close();
  return rate;
}

/** The same by system calls. */
function plain(operation: number, bytes: number, ms: number): number {
  const buffer = Buffer.alloc(bytes);
  const count = (FILE_MIB * MIB) / bytes;
  const begin = performance.now();
  let done = 0;
  for (; performance.now() - begin < ms; done++) {
    const at = bytes === 4096 ? Math.floor(Math.random() * count) * bytes : (done % count) * bytes;
    if (operation === READ) readSync(fd, buffer, 0, bytes, at);
    else writeSync(fd, buffer, 0, bytes, at);
  }
  return done / ((performance.now() - begin) / 1000);
}

for (const [name, operation, pages, depth] of [
  ['4 KiB random reads, 32 under way', READ, 1, 32],
  ['4 KiB random writes, 32 under way', WRITE, 1, 32],
  ['1 MiB sequential reads, 4 under way', READ, 256, 4],
  ['1 MiB sequential writes, 4 under way', WRITE, 256, 4],
] as const) {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < 4; round++) {
    const rate = await drive(operation, pages, depth, (seconds * 1000) / 4);
    const peer = plain(operation, pages * 4096, (seconds * 1000) / 8);
    if (round === 0) continue;
    ours.push(rate);
    theirs.push(peer);
  }
  const [a, b] = [median(ours), median(theirs)];
  if (pages === 1) report('disk', name, a, 'requests/s', { 'plain system calls': b, ratio: a / b });
  else report('disk', name, (a * MIB) / 1e6, 'MB/s', { 'plain system calls': (b * MIB) / 1e6, ratio: a / b });
}

try {
  const linux = await LinuxGuest.boot(await E2fsprogs.fetch(), [`${path},raw,xvda,w`]);
  const timed = async (command: string): Promise<number> => {
    const out = await linux.sh(
      `read a _ </proc/uptime; ${command} 2>/dev/null; read b _ </proc/uptime; echo $a $b`,
    );
    const [from, to] = (out.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
    return to - from;
  };
  for (const [name, args] of [
    ['reads', 'if=/dev/xvda of=/dev/null iflag=direct'],
    ['writes', 'if=/dev/zero of=/dev/xvda oflag=direct'],
  ]) {
    const large = await timed(`dd ${args} bs=1M count=96`);
    report('disk', `in the guest: 1 MiB ${name}, one at a time`, (96 * MIB) / 1e6 / large, 'MB/s');
    const small = await timed(`dd ${args} bs=4k count=1000`);
    report('disk', `in the guest: 4 KiB ${name}, one at a time`, 1000 / small, 'requests/s', {
      'latency, µs': (small / 1000) * 1e6,
    });
  }
  await linux.stop();
} catch (error) {
  console.error(`In the guest: left out: ${messageOf(error)}`);
}
closeSync(fd);
rmSync(dir, { recursive: true });
process.exit(0);
