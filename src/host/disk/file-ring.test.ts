import { describe, expect, it } from 'vitest';
import { everyOrder, type Program } from '../../../test/support/interleaving.js';
import { FileRing, type SlotRequest } from './file-ring.js';

const request = (sector = 0): SlotRequest => ({
  operation: 1,
  sector,
  sectors: 1,
  nrExtents: 0,
  address: new Uint32Array(1),
  length: new Uint32Array(1),
});

/**
 * The soak runs two threads. With two transfers as well, the number of orders would be too large for this
 * test.
 */
const THREADS = Number(process.env.STILLPOINT_RING_THREADS ?? 1);
const TRANSFERS = THREADS === 1 ? 2 : 1;
const MOST_STATES = 10_000_000;
const TIMEOUT_MS = 600_000;
const FIRST = 1000;
const transferOf = (ring: FileRing, slot: number): number => {
  const taken = request();
  ring.read(slot, taken);
  return taken.sector - FIRST;
};
const statusOf = (transfer: number): number => transfer + 50;

const prepared =
  (slots: number, more: (ring: FileRing) => void = () => {}): Program =>
  ({ words }) => {
    const ring = new FileRing(words, slots);
    ring.clear();
    more(ring);
  };

/**
 * The link's side of the ring: it puts `transfers` into the slots, and reuses a slot once its transfer is
 * back.
 */
class Hander {
  readonly lent = new Map<number, number>();
  private readonly free: number[];
  next = 0;
  fresh = 0;

  constructor(
    readonly ring: FileRing,
    slots: number,
    readonly transfers: number,
    private readonly note: (what: string) => void,
  ) {
    this.free = Array.from({ length: slots }, (_, slot) => slot);
  }

  hand(): void {
    const slot = this.next < this.transfers ? this.free.pop() : undefined;
    if (slot === undefined) return;
    this.lent.set(slot, this.next);
    this.ring.submit(slot, request(FIRST + this.next++));
    this.fresh++;
  }

  /**
   * Collects finished transfers as FileLink.poll does. It reads the status only after the slot has been given
   * away again.
   */
  collect(): void {
    const { ring, lent } = this;
    for (let slot = ring.finished(); slot >= 0; slot = ring.finished()) {
      const { status } = ring;
      const transfer = lent.get(slot);
      if (transfer === undefined) throw new Error(`slot ${slot} is finished and was not lent`);
      lent.delete(slot);
      this.free.push(slot);
      this.hand();
      this.note(`${transfer} ends with ${status}`);
    }
  }
}

/** A thread's side of the ring, as in file-worker.ts. */
const thread =
  (slots: number): Program =>
  ({ words, post, note }) => {
    const ring = new FileRing(words, slots);
    for (let slot = ring.take(); slot >= 0; slot = ring.take()) {
      const transfer = transferOf(ring, slot);
      note(`${transfer} is done`);
      if (ring.finish(slot, statusOf(transfer), 0)) post(0);
    }
  };

/** Expects that each transfer is done once, and is answered once with the status that its thread gave. */
const onceEach =
  (transfers: number) =>
  (notes: readonly (readonly string[])[]): void => {
    const all = Array.from({ length: transfers }, (_, i) => [
      `${i} is done`,
      `${i} ends with ${statusOf(i)}`,
    ]);
    expect(notes.flat().sort()).toEqual(all.flat().sort());
  };

describe("a file link's ring, in every order of its accesses", () => {
  it.each([
    [1, 2, 1],
    [2, 2, 1],
    [1, 1, 2],
  ])(
    'gives each transfer to one of two threads: %i slots, %i transfers, %i attempts each',
    (slots, transfers, attempts) => {
      // The ring is closed from the beginning, so that nobody sleeps.
      const link: Program = ({ words, note }) => {
        const hander = new Hander(new FileRing(words, slots), slots, transfers, note);
        for (let i = 0; i < slots; i++) hander.hand();
        hander.collect();
      };
      const thread: Program = ({ words, note }) => {
        const ring = new FileRing(words, slots);
        for (let i = 0; i < attempts; i++) {
          const slot = ring.take();
          if (slot < 0) continue;
          const transfer = transferOf(ring, slot);
          note(`${transfer} is done`);
          ring.finish(slot, statusOf(transfer), 0);
        }
      };
      const seen = new Set<string>();
      everyOrder(
        prepared(slots, (ring) => ring.close()),
        [link, thread, thread],
        ([answers, ...done]) => {
          const all = done.flat();
          expect(new Set(all).size, all.join()).toBe(all.length);
          expect(new Set(answers).size, answers.join()).toBe(answers.length);
          for (const answer of answers) {
            const transfer = Number.parseInt(answer, 10);
            expect(all).toContain(`${transfer} is done`);
            expect(answer).toBe(`${transfer} ends with ${statusOf(transfer)}`);
          }
          seen.add([...answers].sort().join());
        },
      );
      // Both extremes must occur: nothing was done yet when the link looked, and everything was.
      expect(seen.has('')).toBe(true);
      expect(
        seen.has(Array.from({ length: transfers }, (_, i) => `${i} ends with ${statusOf(i)}`).join()),
      ).toBe(true);
    },
  );

  it.each([
    [2, 1, [1]],
    [1, 2, [2]],
    [2, 2, [1, 1]],
  ])('wakes %i threads for %i transfers, submitted by %o, and for its end', (threads, transfers, batches) => {
    const link: Program = ({ words }) => {
      const ring = new FileRing(words, 2);
      let next = 0;
      for (const batch of batches) {
        for (let i = 0; i < batch; i++) ring.submit(next, request(FIRST + next++));
        ring.wake(batch);
      }
      ring.close();
    };
    const thread: Program = ({ words, note }) => {
      const ring = new FileRing(words, 2);
      do {
        const slot = ring.take();
        if (slot < 0) return;
        note(`${transferOf(ring, slot)} is done`);
      } while (threads < transfers);
    };
    everyOrder(prepared(2), [link, ...new Array<Program>(threads).fill(thread)], ([, ...done]) =>
      expect(done.flat().sort()).toEqual(Array.from({ length: transfers }, (_, i) => `${i} is done`)),
    );
  });

  it('tells the link of every finished transfer', () => {
    const slots = 2;
    const link: Program = ({ words, receive, note }) => {
      const ring = new FileRing(words, slots);
      for (let left = 2; left > 0; ) {
        receive(0);
        ring.looking();
        for (let slot = ring.finished(); slot >= 0; slot = ring.finished(), left--)
          note(`${slot} ends with ${ring.status}`);
      }
    };
    const finishing =
      (slot: number): Program =>
      ({ words, post }) => {
        if (new FileRing(words, slots).finish(slot, statusOf(slot), 0)) post(0);
      };
    everyOrder(prepared(slots), [link, finishing(0), finishing(1)], ([answers]) =>
      expect([...answers].sort()).toEqual([`0 ends with ${statusOf(0)}`, `1 ends with ${statusOf(1)}`]),
    );
  });

  it(`does every transfer with ${THREADS} thread(s)`, { timeout: TIMEOUT_MS }, () => {
    const link: Program = ({ words, receive, note }) => {
      const ring = new FileRing(words, 1);
      const hander = new Hander(ring, 1, TRANSFERS, note);
      hander.hand();
      for (;;) {
        if (hander.fresh > 0) ring.wake(hander.fresh);
        hander.fresh = 0;
        if (hander.next === hander.transfers && hander.lent.size === 0) break;
        receive(0);
        ring.looking();
        hander.collect();
      }
      ring.close();
    };
    everyOrder(
      prepared(1),
      [link, ...new Array<Program>(THREADS).fill(thread(1))],
      onceEach(TRANSFERS),
      MOST_STATES,
    );
  });
});
