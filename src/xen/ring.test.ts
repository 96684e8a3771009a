import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BlkifRequest, BlkifRequestX86_32 } from './blkif.js';
import { LinearMemory } from './memory.js';
import { NetifRxRequest, NetifTxRequest } from './netif.js';
import {
  attachBackRing,
  type BackRing,
  type FrontRing,
  finalCheckForRequests,
  finalCheckForResponses,
  freeRequests,
  initFrontRing,
  pushRequests,
  pushResponses,
  readSlot,
  requestProducerOverflows,
  ringSlots,
  Sring,
  unconsumedRequests,
  unconsumedResponses,
  writeSlot,
} from './ring.js';

/** Four pages, of which a ring uses the last and the second: they are adjacent in the ring but not in memory. */
function twoEnds(slotBytes: number, start = 0) {
  const mem = new LinearMemory(new ArrayBuffer(4 * 4096));
  const pages = [3 * 4096, 4096];
  const front = initFrontRing(mem, pages, slotBytes);
  front.req_prod_pvt = start;
  front.rsp_cons = start;
  for (const index of [Sring.req_prod, Sring.rsp_prod]) mem.setU32(pages[0] + index, start);
  for (const event of [Sring.req_event, Sring.rsp_event]) mem.setU32(pages[0] + event, start + 1);
  return { mem, pages, front, back: attachBackRing(mem, pages, slotBytes) };
}

describe('a ring', () => {
  test('of one page has the number of slots that real drivers expect', () => {
    expect(ringSlots(4096, BlkifRequest.sizeof)).toBe(32);
    expect(ringSlots(4096, BlkifRequestX86_32.sizeof)).toBe(32);
    expect(ringSlots(16 * 4096, BlkifRequest.sizeof)).toBe(512);
    expect(ringSlots(4096, NetifTxRequest.sizeof)).toBe(256);
    expect(ringSlots(4096, NetifRxRequest.sizeof)).toBe(256);
  });

  test('carries every request and response once, in order, and wakes whoever asked, also when indices wrap', () => {
    const steps = fc.array(fc.constantFrom('request', 'serve', 'collect'), { maxLength: 400 });
    fc.assert(
      fc.property(
        steps,
        fc.constantFrom(0, 0xffff_fff0, 0x7fff_fff8),
        fc.constantFrom(112, 1000),
        (steps, start, bytes) => {
          const { mem, front, back } = twoEnds(bytes, start);
          const slot = new Uint8Array(bytes);
          let sent = 0;
          let served = 0;
          let collected = 0;
          // Each end sleeps when its final check finds nothing, and works again only when it is notified.
          let backAwake = false;
          let frontAwake = false;
          const put = (index: number, number: number) => {
            slot.fill(number & 0xff);
            writeSlot(mem, back, index, slot);
          };
          const expectSlot = (index: number, number: number) => {
            readSlot(mem, front, index, slot);
            expect(slot.every((byte) => byte === (number & 0xff))).toBe(true);
          };
          const serve = () => {
            while (finalCheckForRequests(mem, back)) {
              expectSlot(back.req_cons, served);
              back.req_cons = (back.req_cons + 1) >>> 0;
              put(back.rsp_prod_pvt, served + 100);
              back.rsp_prod_pvt = (back.rsp_prod_pvt + 1) >>> 0;
              served++;
              if (pushResponses(mem, back)) frontAwake = true;
            }
            backAwake = false;
          };
          const collect = () => {
            while (finalCheckForResponses(mem, front)) {
              expectSlot(front.rsp_cons, collected + 100);
              front.rsp_cons = (front.rsp_cons + 1) >>> 0;
              collected++;
            }
            frontAwake = false;
          };
          for (const step of steps) {
            if (step === 'request' && freeRequests(front) > 0) {
              put(front.req_prod_pvt, sent++);
              front.req_prod_pvt = (front.req_prod_pvt + 1) >>> 0;
              if (pushRequests(mem, front)) backAwake = true;
            } else if (step === 'serve' && backAwake) serve();
            else if (step === 'collect' && frontAwake) collect();
            expect(requestProducerOverflows(mem, back)).toBe(false);
          }
          if (backAwake) serve();
          if (frontAwake) collect();
          expect([served, collected]).toEqual([sent, sent]);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('that a front end overfills is detected, and returns no more requests than it has slots', () => {
    const { mem, pages, back } = twoEnds(112);
    mem.setU32(pages[0] + Sring.req_prod, back.slots);
    expect(requestProducerOverflows(mem, back)).toBe(false);
    mem.setU32(pages[0] + Sring.req_prod, back.slots + 1);
    expect(requestProducerOverflows(mem, back)).toBe(true);
    expect(unconsumedRequests(mem, back)).toBe(back.slots);
  });

  test('does not use indices that a hostile end wrote over its own', () => {
    const { mem, pages, front, back } = twoEnds(112);
    writeSlot(mem, front, 0, new Uint8Array(112).fill(7));
    front.req_prod_pvt = 1;
    pushRequests(mem, front);
    mem.setU32(pages[0] + Sring.rsp_prod, 0xdead);
    back.req_cons = 1;
    back.rsp_prod_pvt = 1;
    pushResponses(mem, back);
    expect(unconsumedResponses(mem, front)).toBe(1);
  });

  test('slot that crosses two pages is whole in both directions', () => {
    const { mem, front, back }: { mem: LinearMemory; front: FrontRing; back: BackRing } = twoEnds(1000);
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);
    writeSlot(mem, front, 4, bytes);
    const seen = new Uint8Array(1000);
    readSlot(mem, back, 4, seen);
    expect(seen).toEqual(bytes);
    // Slot 4 starts at 64 + 4000: 32 bytes on the first page, the rest on the second.
    expect(mem.getU8(3 * 4096 + 4064)).toBe(0);
    expect(mem.getU8(4096)).toBe((32 * 7) & 0xff);
    expect(() => writeSlot(mem, front, 0, new Uint8Array(1001))).toThrow(
      /1001 bytes for a ring slot of 1000/,
    );
  });
});
