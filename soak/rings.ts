// npm run soak -- rings [OPERATIONS]: memory that threads share. So many transfers (10 000 000) through the ring of a
// file link with two and with three threads, a hundredth of that through a file link with its threads and a file, and
// the ring's protocol with two threads in every order of its accesses.

import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { DISK_FLUSH, DISK_READ, DiskTransfer } from '../src/devices/vbd/disk-link.js';
import { FileLink } from '../src/host/disk/file-link.js';
import { FileRing, ringBuffer, SLOTS, type SlotRequest } from '../src/host/disk/file-ring.js';
import { LinearMemory } from '../src/xen/memory.js';
import { type SoakRow, soaked } from './lib/soaked.js';

/** A transfer that knows its right result. */
class Expecting extends DiskTransfer {
  expected = 0;
}

const request = (): SlotRequest => ({
  operation: 1,
  sector: 0,
  sectors: 0,
  nrExtents: 1,
  address: new Uint32Array(1),
  length: new Uint32Array(1),
});
const sumOf = ({ sector, sectors, address, length }: SlotRequest): number =>
  (sector + sectors + address[0] + length[0]) % 1_000_003;

if (!isMainThread) {
  const ring = FileRing.over(workerData);
  const taken = request();
  for (let slot = ring.take(); slot >= 0; slot = ring.take()) {
    ring.read(slot, taken);
    ring.finish(slot, sumOf(taken), taken.sector & 0xffff);
  }
} else await main();

/**
 * Makes transfers through a ring, each with other values; the answer to each must match. Returns the number of
 * failures.
 */
async function ringSoak(operations: number, threads: number): Promise<number> {
  const buffer = ringBuffer();
  const ring = FileRing.over(buffer);
  ring.clear();
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL(import.meta.url), { workerData: buffer }),
  );
  const lent = new Array<{ sum: number; low: number } | undefined>(SLOTS).fill(undefined);
  const free = Array.from({ length: SLOTS }, (_, i) => i);
  let failures = 0;
  let submitted = 0;
  let done = 0;
  let last = performance.now();
  while (done < operations && failures < 10) {
    // There are few at a time, so that threads find nothing and sleep; sometimes there are as many as fit.
    const batch = submitted % 1000 < 990 ? 1 + (submitted % 5) : SLOTS;
    let fresh = 0;
    for (; fresh < batch && submitted < operations; fresh++) {
      const slot = free.pop();
      if (slot === undefined) break;
      const one = request();
      one.sector = submitted * 3_000_017;
      one.sectors = submitted % 4096;
      one.address[0] = (submitted * 7919) >>> 0;
      one.length[0] = submitted;
      lent[slot] = { sum: sumOf(one), low: one.sector % 0x1_0000 };
      ring.submit(slot, one);
      submitted++;
    }
    if (fresh > 0) ring.wake(fresh);
    ring.looking();
    for (let slot = ring.finished(); slot >= 0; slot = ring.finished()) {
      const { status, microseconds } = ring;
      const one = lent[slot];
      lent[slot] = undefined;
      if (one === undefined || one.sum !== status || one.low !== microseconds) {
        failures++;
        console.log(`slot ${slot}, after ${submitted} submissions: ${one?.sum} expected, ${status} found`);
      }
      free.push(slot);
      done++;
      last = performance.now();
    }
    if (performance.now() - last > 10_000) {
      failures++;
      console.log(`nothing is done any more: ${SLOTS - free.length} are lent, ${done} were done`);
      break;
    }
  }
  ring.close();
  const ended = Promise.all(workers.map((worker) => new Promise((done) => worker.once('exit', done))));
  const late = setTimeout(() => {
    failures++;
    console.log('a thread does not end');
    for (const worker of workers) void worker.terminate();
  }, 10_000);
  await ended;
  clearTimeout(late);
  return failures;
}

/**
 * Makes reads within a file, which succeed, and beyond its end, which fail, through a link that has more of them than
 * slots.
 */
async function linkSoak(operations: number): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'soak-rings-'));
  const path = join(dir, 'image');
  const fd = openSync(path, 'w+');
  const SECTORS = 1024;
  ftruncateSync(fd, SECTORS * 512);
  const link = await FileLink.open({ path, readOnly: false, discard: false });
  const memory = new LinearMemory(new SharedArrayBuffer(1 << 20));
  let failures = 0;
  let done = 0;
  let submitted = 0;
  const submit = () => {
    const n = submitted++;
    const transfer = new Expecting(1);
    // A flush in each batch keeps the batch from being done by this thread.
    transfer.operation = n % 4 === 0 ? DISK_FLUSH : DISK_READ;
    transfer.expected = transfer.operation === DISK_READ && n % 3 === 0 ? 5 : 0;
    if (transfer.operation === DISK_READ) {
      transfer.sector = transfer.expected === 0 ? n % (SECTORS - 8) : SECTORS + 8 + (n % 100);
      transfer.sectors = 8;
      transfer.addExtent((n % 250) * 4096, 4096);
    }
    link.submit(transfer);
  };
  // A link's threads do not keep a process alive.
  const alive = setInterval(() => undefined, 1000);
  const MOST = 2 * SLOTS;
  await new Promise<void>((resolve) => {
    const fill = (): void => {
      while (submitted - done < MOST && submitted < operations) submit();
      link.commit();
      if (done === operations) resolve();
    };
    link.begin(
      {
        done(transfer, status) {
          done++;
          if (!(transfer instanceof Expecting) || status !== transfer.expected) failures++;
        },
        batchDone: () => setImmediate(fill),
      },
      memory,
      () => undefined,
    );
    fill();
  });
  clearInterval(alive);
  await link.quiesce();
  await link.close();
  closeSync(fd);
  rmSync(dir, { recursive: true });
  return failures;
}

async function main(): Promise<void> {
  const operations = Number(process.argv[2] ?? 10_000_000);
  const rows: SoakRow[] = [];
  for (const threads of [2, 3])
    rows.push({
      property: `each of a ring's transfers is done once and answered with its own result, ${threads} threads`,
      cases: operations,
      failures: await ringSoak(operations, threads),
    });
  const some = Math.ceil(operations / 100);
  rows.push({
    property: 'each transfer of a file link has its own result, with more than there are slots',
    cases: some,
    failures: await linkSoak(some),
  });
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--project',
    'all',
    'src/host/disk/file-ring.test.ts',
  ];
  const env = { ...process.env, STILLPOINT_RING_THREADS: '2' };
  const { status } = spawnSync(process.execPath, ['--max-old-space-size=8192', ...args], {
    stdio: 'inherit',
    env,
  });
  rows.push({
    property: "the ring's protocol, two threads, in every order of its accesses",
    cases: 1,
    failures: status === 0 ? 0 : 1,
  });
  soaked(rows);
}
