/**
 * The memory that a file link and its threads share: a table of transfers, a queue of transfers to be done, and a
 * queue of finished ones, all in one SharedArrayBuffer. The guest's memory is shared too, so threads read and write
 * it directly.
 *
 * Invariant: between `submit` and `finished` a slot belongs to exactly one thread (or to the queue), at all other
 * times to the link. Both queues have a place for every slot, so that neither can overflow.
 *
 * The order of memory accesses: one thread (the link's) submits and collects, several take and finish. All words of
 * the queues are accessed atomically, which in JavaScript means sequentially consistent: there is one order of all
 * these accesses.
 *
 *   word         written by           what its order is needed for
 *   SUBMITTED    link                 is written before SUBMIT_PROD, which publishes it
 *   SUBMIT_PROD  link                 a thread that reads the new value also sees everything that the link wrote before it
 *                                     (the slot in the table, guest memory)
 *   SUBMIT_CONS  threads              is advanced by compare-and-exchange, so that one thread gets each place. It is loaded
 *                                     before SUBMIT_PROD. Both only grow, so a place below a SUBMIT_PROD that was loaded later
 *                                     has been submitted. In the other order, a SUBMIT_CONS beyond the SUBMIT_PROD loaded
 *                                     before it would look like work, although the transfer in its place was done long ago.
 *                                     The place is read before the exchange: it is only written again after SUBMIT_CONS has
 *                                     passed it, and then the exchange fails (except for a thread that stands still for 2^32
 *                                     transfers)
 *   CALLS        link                 a thread loads it before it looks for work or for the end, and waits on it if it found
 *                                     none. A call in between has changed the value, so no call is missed
 *   SLEEPERS     threads              is raised before the wait; the link loads it after it has raised CALLS. So either the
 *                                     link sees the sleeper, or the sleeper sees the call
 *   DONE_PROD    threads              reserves a place in the queue of finished slots; the place is filled afterwards
 *   FINISHED     threads, link (-1)   the link that takes the slot out of it also sees what the thread wrote before (status,
 *                                     time, guest memory). A place that is still -1 will soon be filled, by a thread that then
 *                                     signals it
 *   SIGNALLED    threads (1), link (0) is cleared before the link looks, and raised after a place was filled. So whatever the
 *                                     link did not find is followed by a signal to it
 *   CLOSING      link                 is written before CALLS
 *   table        the slot's owner     plain accesses, ordered by the words above: link, SUBMIT_PROD, thread, FINISHED, link
 *
 * file-ring.test.ts runs this code in every order that its accesses can have; `npm run soak -- rings` runs it with
 * threads.
 */
import { AtomicWords, type SharedWords } from './shared-words.js';

/** How many transfers can be in progress at once, a power of 2. More transfers wait in the link. */
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

/** Words at the start of the ring. */
const SUBMIT_PROD = 0;
const SUBMIT_CONS = 1;
const DONE_PROD = 2;
/** 1 if the link has been signalled and has not looked yet. */
const SIGNALLED = 3;
const CLOSING = 4;
const SLEEPERS = 5;
/** A counter that the link raises to wake its threads. */
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

/** Allocates memory for a ring of `slots` slots. `FileRing.clear` has to be called on it. */
export const ringBuffer = (slots = SLOTS): SharedArrayBuffer =>
  new SharedArrayBuffer(4 * (QUEUES_END(slots) + slots * SLOT_WORDS));

export class FileRing {
  private readonly mask: number;
  private readonly finishedQueue: number;
  private readonly table: number;
  private doneCons = 0;
  /** About the slot that `finished` returned last: 0 or an errno, and how many µs the transfer took in its thread. */
  status = 0;
  microseconds = 0;

  /** `words` are either all zero, or are shared with another thread's ring. */
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

  /** Initialises the memory. To be called once, before any thread has the ring. */
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
  /** To be called after `submit`: wakes up to `count` threads. */
  wake(count: number): void {
    const { words: w } = this;
    w.add(CALLS, 1);
    if (w.load(SLEEPERS) > 0) w.notify(CALLS, count);
  }
  /**
   * Returns a finished slot, which belongs to the link again, and sets `status` and `microseconds`. Returns -1 if
   * there is none.
   */
  finished(): number {
    const { words: w } = this;
    if (this.doneCons === w.load(DONE_PROD)) return -1;
    const slot = w.exchange(this.finishedQueue + (this.doneCons & this.mask), -1);
    // A thread has reserved the place but has not filled it yet. It will soon do so and signal it.
    if (slot < 0) return -1;
    this.doneCons = (this.doneCons + 1) | 0;
    // These are read now, because the slot may be used again before anybody asks for them.
    const at = this.table + slot * SLOT_WORDS;
    this.status = w.read(at + STATUS);
    this.microseconds = w.read(at + MICROSECONDS);
    return slot;
  }
  /** To be called before the link looks for finished slots: from now on threads signal it again. */
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

  /** Waits for a slot to work on. Returns -1 when the link closes and no work is left. */
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
  /** Returns a submitted slot that no other thread has, or -1. */
  private tryTake(): number {
    const { words: w } = this;
    for (;;) {
      // The order of these accesses matters; see the top of this file.
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
  /** Gives a slot back. Returns true if the link has to be signalled. */
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
