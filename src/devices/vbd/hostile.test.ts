import { describe, expect, it } from 'vitest';
import { BlockFront, FrontMemory, PAGE } from '../../../test/support/block-front.js';
import { MemoryLink } from '../../../test/support/memory-disk.js';

/** The number of requests. `npm run soak -- disk` makes 1 000 000. */
const REQUESTS = Number(process.env['STILLPOINT_DISK_HOSTILE'] ?? 30_000);
const SEED = Number(process.env['STILLPOINT_DISK_SEED'] ?? 1);
const SECTORS = 1024;
const PAGES = 64;
/** Pages that are never granted, and pages that are granted for reading only. */
const HIDDEN = [40, 50];
const READ_ONLY = [50, 60];

/** xorshift32, so that a seed always gives the same run. */
function random(seed: number): (below: number) => number {
  let x = seed | 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

describe('a hostile front end', () => {
  it('does no harm with any ring contents, indices, grants and states', { timeout: 3_600_000 }, async () => {
    const r = random(SEED);
    const memory = new FrontMemory(PAGES);
    const { mem } = memory;
    const front = new BlockFront(memory, { queues: 2, order: 1 });
    const link = new MemoryLink(new Uint8Array(SECTORS * 512));
    for (let i = 1; i < PAGES; i++) memory.granted[i] = 1;
    for (let i = HIDDEN[0]; i < HIDDEN[1]; i++) memory.granted[i] = 0;
    for (let i = READ_ONLY[0]; i < READ_ONLY[1]; i++) memory.granted[i] = 3;
    mem.bytes(HIDDEN[0] * PAGE, (READ_ONLY[1] - HIDDEN[0]) * PAGE).fill(0x5a);
    front.plug(link).connect();

    /** Fills a slot with a request that is often nearly valid. */
    const slot = (at: number): void => {
      for (let i = 0; i < 112; i += 4) mem.setU32(at + i, r(0xffff_ffff));
      if (r(8) === 0) return;
      const op = r(8);
      mem.setU8(at, op);
      const count = r(6) === 0 ? r(13) : 1 + r(3);
      mem.setU8(at + 1, count);
      if (op === 6) {
        mem.setU8(at + 1, r(4));
        mem.setU16(at + 2, r(4) === 0 ? r(600) : r(30));
        mem.setU32(at + 28, r(PAGES + 4));
      }
      if (r(5) > 0) mem.setU64(at + 16, r(SECTORS + 4));
      for (let i = 0; i < 11; i++) {
        const good = r(12) > 0;
        const first = r(8);
        mem.setU32(at + 24 + 8 * i, good ? 8 + r(30) : r(PAGES + 4));
        mem.setU8(at + 28 + 8 * i, first);
        mem.setU8(at + 29 + 8 * i, good ? first + r(8 - first) : r(9));
      }
    };
    const nodes = ['ring-ref0', 'ring-ref1', 'ring-page-order', 'event-channel', 'multi-queue-num-queues'];
    let connections = 1;
    for (let turn = 0; front.vbd.counters.requests < REQUESTS; turn++) {
      if (turn > 20 * REQUESTS) throw new Error('the disk is served no more');
      // Promises of links settle between turns of the loop, so some turns wait for them.
      if (turn % 4 === 0) await undefined;
      const ring = front.rings[r(2)];
      const what = r(100);
      if (what < 60) {
        const n = 1 + r(ring.slots);
        for (let i = 0; i < n; i++) {
          const offset = 64 + ((ring.req_prod_pvt + i) & (ring.slots - 1)) * 112;
          // Slots that cross a page keep the random bytes that are there.
          if ((offset & 4095) <= PAGE - 112) slot(ring.pages[offset >>> 12] + (offset & 4095));
        }
        ring.req_prod_pvt = (mem.getU32(ring.pages[0] + 8) + n) >>> 0;
        mem.setU32(ring.pages[0], ring.req_prod_pvt);
      } else if (what < 90) {
        const n = 1 + r(40);
        for (let i = 0; i < n && link.taken.length > 0; i++) link.finishOne(r(1000));
      } else if (what < 91) mem.setU32(ring.pages[0] + 4 * r(4), r(0xffff_ffff));
      else if (what < 94) front.set(r(2) === 0 ? nodes[r(5)] : `queue-${r(3)}/${nodes[r(5)]}`, r(70));
      else if (what < 95) front.set('state', r(9));
      else if (what < 97) memory.granted[1 + r(39)] ^= 1;
      else if (what < 98) link.failing = link.failing === 0 && r(3) === 0 ? 5 : 0;
      memory.send(1 + r(3));
      if (front.backState !== 4 && r(10) === 0) {
        for (let i = 1; i < HIDDEN[0]; i++) memory.granted[i] = 1;
        front.set('state', 6);
        // A link that is told to quiesce answers some turns of the event loop later.
        for (let i = 0; i < 4; i++) await undefined;
        front.set('state', 1);
        front.connect();
        connections++;
      }
    }
    front.set('state', 6);
    for (let i = 0; i < 4; i++) await undefined;
    expect(memory.mapped).toBe(0);
    const guarded = mem.bytes(HIDDEN[0] * PAGE, (READ_ONLY[1] - HIDDEN[0]) * PAGE);
    expect(guarded.every((byte) => byte === 0x5a)).toBe(true);
    expect(front.vbd.counters.sectorsRead).toBeGreaterThan(REQUESTS / 100);
    expect(connections).toBeGreaterThan(1);
    // After all this the front end may behave well again, and is served.
    for (let i = 1; i < HIDDEN[0]; i++) memory.granted[i] = 1;
    link.failing = 0;
    front.set('state', 1);
    front.connect();
    front.responses();
    front.request(0, 42n, 0, [{ ref: 39, first: 0, last: 7 }]);
    front.push();
    link.finish(1);
    expect(front.responses().map((one) => [one.id, one.status])).toEqual([[42n, 0]]);
  });
});
