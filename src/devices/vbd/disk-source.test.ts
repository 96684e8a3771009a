import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockFront, FrontMemory, PAGE } from '../../../test/support/block-front.js';
import { MemoryLink } from '../../../test/support/memory-disk.js';
import { DiskSource } from './disk-source.js';
import { LOG_BLOCK_BYTES, WrittenLog } from './written-log.js';

const WRITE = 1;
/** The disk's size is no multiple of a block, so the last block is shorter. */
const BYTES = 20 * LOG_BLOCK_BYTES + 8192;

describe('the log of written blocks', () => {
  it('gives each noted block once, in runs up to the wanted length, and the last block with its true length', () => {
    const log = new WrittenLog(BYTES);
    expect(log.pending).toBe(BYTES);
    const runs = [];
    for (
      let run = log.take(0, 8 * LOG_BLOCK_BYTES);
      run;
      run = log.take(run.at + run.bytes, 8 * LOG_BLOCK_BYTES)
    )
      runs.push(run.bytes / LOG_BLOCK_BYTES);
    expect(runs).toEqual([8, 8, 4 + 8192 / LOG_BLOCK_BYTES]);
    expect(log.pending).toBe(0);
    log.add(LOG_BLOCK_BYTES / 512 - 1, 2);
    log.add(0, 1);
    expect(log.take(0, LOG_BLOCK_BYTES)).toEqual({ at: 0, bytes: LOG_BLOCK_BYTES });
    expect(log.take(0, 9 * LOG_BLOCK_BYTES)).toEqual({ at: LOG_BLOCK_BYTES, bytes: LOG_BLOCK_BYTES });
    expect(log.take(0, LOG_BLOCK_BYTES)).toBeUndefined();
  });
});

/**
 * One step between two blocks of a copy: some writes begin, some are finished in any order, one may fail half
 * done.
 */
const step = fc.record({
  begin: fc.array(fc.nat(BYTES / PAGE - 1), { maxLength: 4 }),
  finish: fc.array(fc.nat(31), { maxLength: 4 }),
  fail: fc.boolean(),
});

describe('a copy of a disk whose guest goes on writing', () => {
  it('is complete after the last sweep, except for writes that are repeated where the guest arrives', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 8, maxLength: 60 }), fc.nat(3), async (steps, sweeps) => {
        const memory = new FrontMemory(64);
        const front = new BlockFront(memory);
        const contents = new Uint8Array(BYTES).map((_, i) => i >>> 12);
        const link = new MemoryLink(contents);
        front.plug(link).connect();
        memory.granted.fill(1, front.dataPage);
        const source = await DiskSource.open(front.vbd, () => undefined);
        const copy = new Uint8Array(BYTES);
        /**
         * The page of the disk to which each unfinished write goes, by the write's id. The id is also the
         * number of its page of memory.
         */
        const under = new Map<number, number>();
        const wanted = contents.slice();
        let stamp = 0;
        const answers = (): void => {
          for (const r of front.responses()) {
            const page = under.get(Number(r.id)) as number;
            under.delete(Number(r.id));
            // Nobody knows what a failed write has changed. The copy must have what the disk has.
            if (r.status !== 0) wanted.set(contents.subarray(page * PAGE, (page + 1) * PAGE), page * PAGE);
          }
        };
        const happen = (): void => {
          const now = steps.shift();
          for (const page of now?.begin ?? []) {
            const id = Array.from({ length: 30 }, (_, i) => i).find((i) => !under.has(i));
            if (id === undefined || [...under.values()].includes(page)) continue;
            under.set(id, page);
            const at = (front.dataPage + id) * PAGE;
            memory.mem.bytes(at, PAGE).fill(++stamp);
            wanted.fill(stamp, page * PAGE, (page + 1) * PAGE);
            front.request(WRITE, BigInt(id), page * 8, [{ ref: front.dataPage + id, first: 0, last: 7 }]);
          }
          front.push();
          for (const place of now?.finish ?? []) {
            if (link.taken.length === 0) break;
            if (now?.fail) link.runOnly(place);
            link.failing = now?.fail ? 5 : 0;
            link.finishOne(place);
            link.failing = 0;
          }
          answers();
        };
        const take = async (at: number, data: Uint8Array): Promise<void> => {
          copy.set(data, at);
          happen();
        };
        for (let i = 0; i <= sweeps; i++) await source.sweep(take);
        while (steps.length > 0) happen();
        // The link finishes one write whose answer is lost, as when a host stops.
        if (link.taken.length > 0) link.runOnly(0);
        await front.bus.pause();
        await source.sweep(async (at, data) => copy.set(data, at));
        expect(source.pending).toBe(0);
        await source.close();
        const there = new MemoryLink(copy);
        await front.move(there);
        there.finish(there.taken.length);
        answers();
        expect(under.size).toBe(0);
        expect(Buffer.compare(copy, wanted)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});
