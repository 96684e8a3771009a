/**
 * What a file link and its threads share: a table of transfers, a queue of those to be done and one of those done,
 * all in one SharedArrayBuffer. The guest's memory is shared too, so that threads read and write it in place.
 *
 * Invariant: a slot belongs to the link, or between `submit` and `finished` to exactly one thread. Both queues have a
 * place for every slot, so that neither can overflow.
 *
 * The order of memory. One thread submits and collects (the link's), several take and finish. All words of the queues
 * are accessed atomically, which in JavaScript is sequentially consistent: there is one order of all these accesses.
 *
 *  word         written by           what its order is needed for
 *  SUBMITTED    link                 before SUBMIT_PROD, which makes it known
 *  SUBMIT_PROD  link                 everything that the link wrote before (the slot in the table, guest memory) is seen
 *                                    by the thread that reads the new value
 *  SUBMIT_CONS  threads              compare-and-exchange: one thread has the place. Loaded before SUBMIT_PROD: as both only
 *                                    grow, a place below a SUBMIT_PROD that was loaded later has been submitted; the other
 *                                    way round, a SUBMIT_CONS beyond the SUBMIT_PROD loaded before reads as work, and what
 *                                    is in its place was done long ago. The place itself is read before the exchange: it
 *                                    is written again only after SUBMIT_CONS has passed it, and then the exchange fails
 *                                    (but for a thread that stands still for 2^32 transfers)
 *  CALLS        link                 loaded before a thread looks for work or for the end, waited for after it found
 *                                    none: what came between has changed it, so no call is missed
 *  SLEEPERS     threads              raised before the wait; the link loads it after it has raised CALLS. Either it sees the
 *                                    sleeper, or the sleeper sees the call
 *  DONE_PROD    threads              a place for what is done; the place is filled after it
 *  FINISHED     threads, link (-1)   what the thread wrote before (status, time, guest memory) is seen by the link that
 *                                    takes the slot out of it. A place that is still -1 is filled soon, by a thread that
 *                                    then says so
 *  SIGNALLED    threads (1), link (0) cleared before the link looks, raised after a place was filled: what the link did
 *                                    not find any more is followed by a word to it
 *  CLOSING      link                 before CALLS
 *  table        the slot's owner     plain accesses, ordered by the words above: link, SUBMIT_PROD, thread, FINISHED, link
 *
 * file-ring.test.ts runs this code in every order that its accesses can have; `npm run soak -- rings` with threads.
 */
import { AtomicWords, type SharedWords } from './shared-words.js';

/** Transfers under way at once; more wait in the link. A power of 2. */
export const SLOTS = 256;
export const MAX_EXTENTS = 256;

/** Words of a slot: operation, sector low and high, sectors low and high, number of extents, status, µs, extents. */
const OPERATION = 0;
const SECTOR = 1;
const SECTORS = 3;
const NR_EXTENTS = 5;
const STATUS = 6;
const MICROSECONDS = 7;
const EXTENTS = 8;
const SLOT_WORDS = EXTENTS + 2 * MAX_EXTENTS;

/** Words at the head. */
const SUBMIT_PROD = 0;
const SUBMIT_CONS = 1;
const DONE_PROD = 2;
/** The link has been told and has not looked yet. */
const SIGNALLED = 3;
const CLOSING = 4;
const SLEEPERS = 5;
/** Counts the link's calls to its threads. */
const CALLS = 6;
const SUBMITTED = 8;
const QUEUES_END = (slots: number): number => SUBMITTED + 2 * slots;

const TWO32 = 0x1_0000_0000;

export interface SlotRequest {
  operation: number;
  sector: number;
  sectors: number;
  nrExtents: number;
  address: Uint32Array;
  length: Uint32Array;
}

/** Memory for a ring of so many slots, as `FileRing.clear` wants it. */
export const ringBuffer = (slots = SLOTS): SharedArrayBuffer =>
  new SharedArrayBuffer(4 * (QUEUES_END(slots) + slots * SLOT_WORDS));

export class FileRing {
  private readonly mask: number;
  private readonly finishedQueue: number;
  private readonly table: number;
  private doneCons = 0;
  /** Of the slot that `finished` gave last: 0 or an errno, and how long it took its thread, µs. */
  status = 0;
  microseconds = 0;

  /** `words`: all zero, or those that another thread's ring has. */
  constructor(
    private readonly words: SharedWords,
    slots = SLOTS,
  ) {
    this.mask = slots - 1;
    this.finishedQueue = SUBMITTED + slots;
    this.table = QUEUES_END(slots);
  }

  static over(buffer: SharedArrayBuffer): FileRing {
    return new FileRing(new AtomicWords(buffer));
  }

  // --- the link's side ---

  /** Once, before any thread has it. */
  clear(): void {
    for (let i = 0; i <= this.mask; i++) this.words.store(this.finishedQueue + i, -1);
  }

  submit(slot: number, request: SlotRequest): void {
    const { words: w } = this;
    const at = this.table + slot * SLOT_WORDS;
    w.write(at + OPERATION, request.operation);
    w.write(at + SECTOR, request.sector);
    w.write(at + SECTOR + 1, Math.floor(request.sector / TWO32));
    w.write(at + SECTORS, request.sectors);
    w.write(at + SECTORS + 1, Math.floor(request.sectors / TWO32));
    w.write(at + NR_EXTENTS, request.nrExtents);
    for (let i = 0; i < request.nrExtents; i++) {
      w.write(at + EXTENTS + 2 * i, request.address[i]);
      w.write(at + EXTENTS + 2 * i + 1, request.length[i]);
    }
    const prod = w.load(SUBMIT_PROD);
    w.store(SUBMITTED + (prod & this.mask), slot);
    w.store(SUBMIT_PROD, (prod + 1) | 0);
  }
  /** After `submit`: wakes as many threads as there is work for. */
  wake(count: number): void {
    const { words: w } = this;
    w.add(CALLS, 1);
    if (w.load(SLEEPERS) > 0) w.notify(CALLS, count);
  }
  /** A finished slot, which is the link's again, with `status` and `microseconds`; or -1. */
  finished(): number {
    const { words: w } = this;
    if (this.doneCons === w.load(DONE_PROD)) return -1;
    const slot = w.exchange(this.finishedQueue + (this.doneCons & this.mask), -1);
    // The place was taken by a thread that has not written it yet: soon.
    if (slot < 0) return -1;
    this.doneCons = (this.doneCons + 1) | 0;
    // Now: the slot's next user may be done before anybody asks.
    const at = this.table + slot * SLOT_WORDS;
    this.status = w.read(at + STATUS);
    this.microseconds = w.read(at + MICROSECONDS);
    return slot;
  }
  /** The link looks now: it is to be told again of what follows. */
  looking(): void {
    this.words.store(SIGNALLED, 0);
  }
  close(): void {
    const { words: w } = this;
    w.store(CLOSING, 1);
    w.add(CALLS, 1);
    w.notify(CALLS, Number.POSITIVE_INFINITY);
  }

  // --- a thread's side ---

  /** Waits for a slot to do; -1 when the link closes and nothing is left to do. */
  take(): number {
    const { words: w } = this;
    for (;;) {
      const calls = w.load(CALLS);
      const slot = this.tryTake();
      if (slot >= 0) return slot;
      if (w.load(CLOSING) !== 0) return this.tryTake();
      w.add(SLEEPERS, 1);
      w.wait(CALLS, calls);
      w.add(SLEEPERS, -1);
    }
  }
  /** A submitted slot that no other thread has, or -1. */
  private tryTake(): number {
    const { words: w } = this;
    for (;;) {
      // In this order; see above.
      const cons = w.load(SUBMIT_CONS);
      if (cons === w.load(SUBMIT_PROD)) return -1;
      const slot = w.load(SUBMITTED + (cons & this.mask));
      if (w.compareExchange(SUBMIT_CONS, cons, (cons + 1) | 0) === cons) return slot;
    }
  }
  read(slot: number, into: SlotRequest): void {
    const { words: w } = this;
    const at = this.table + slot * SLOT_WORDS;
    const two = (low: number): number => (w.read(low + 1) >>> 0) * TWO32 + (w.read(low) >>> 0);
    into.operation = w.read(at + OPERATION);
    into.sector = two(at + SECTOR);
    into.sectors = two(at + SECTORS);
    into.nrExtents = w.read(at + NR_EXTENTS);
    for (let i = 0; i < into.nrExtents; i++) {
      into.address[i] = w.read(at + EXTENTS + 2 * i);
      into.length[i] = w.read(at + EXTENTS + 2 * i + 1);
    }
  }
  /** Gives a slot back; true when the link has to be told. */
  finish(slot: number, status: number, microseconds: number): boolean {
    const { words: w } = this;
    const at = this.table + slot * SLOT_WORDS;
    w.write(at + MICROSECONDS, microseconds);
    w.write(at + STATUS, status);
    const prod = w.add(DONE_PROD, 1);
    w.store(this.finishedQueue + (prod & this.mask), slot);
    return w.exchange(SIGNALLED, 1) === 0;
  }
}
