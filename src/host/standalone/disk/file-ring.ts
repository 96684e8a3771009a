/**
 * What a file link and its threads share: a table of transfers, a queue of those to be done and one of those done,
 * all in one SharedArrayBuffer. The guest's memory is shared too, so that threads read and write it in place.
 *
 * Invariant: a slot belongs to the link, or between `submitted` and `finished` to exactly one thread. Both queues
 * have a place for every slot, so that neither can overflow.
 */

/** Transfers under way at once; more wait in the link. */
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
const SUBMITTED = 8;
const FINISHED = SUBMITTED + SLOTS;
const TABLE = FINISHED + SLOTS;

const TWO32 = 0x1_0000_0000;

export interface SlotRequest {
  operation: number;
  sector: number;
  sectors: number;
  nrExtents: number;
  address: Uint32Array;
  length: Uint32Array;
}

export class FileRing {
  readonly words: Int32Array;
  private readonly unsigned: Uint32Array;
  private doneCons = 0;

  constructor(readonly buffer = new SharedArrayBuffer(4 * (TABLE + SLOTS * SLOT_WORDS))) {
    this.words = new Int32Array(buffer);
    this.unsigned = new Uint32Array(buffer);
  }

  // --- the link's side ---

  submit(slot: number, request: SlotRequest): void {
    const at = TABLE + slot * SLOT_WORDS;
    const { unsigned: u } = this;
    u[at + OPERATION] = request.operation;
    u[at + SECTOR] = request.sector;
    u[at + SECTOR + 1] = Math.floor(request.sector / TWO32);
    u[at + SECTORS] = request.sectors;
    u[at + SECTORS + 1] = Math.floor(request.sectors / TWO32);
    u[at + NR_EXTENTS] = request.nrExtents;
    for (let i = 0; i < request.nrExtents; i++) {
      u[at + EXTENTS + 2 * i] = request.address[i];
      u[at + EXTENTS + 2 * i + 1] = request.length[i];
    }
    const prod = this.words[SUBMIT_PROD];
    this.words[SUBMITTED + (prod & (SLOTS - 1))] = slot;
    Atomics.store(this.words, SUBMIT_PROD, (prod + 1) | 0);
  }
  /** Wakes as many threads as there is work for. */
  wake(count: number): void {
    if (Atomics.load(this.words, SLEEPERS) > 0) Atomics.notify(this.words, SUBMIT_PROD, count);
  }
  /** A finished slot, or -1. */
  finished(): number {
    if (this.doneCons === Atomics.load(this.words, DONE_PROD)) return -1;
    const place = FINISHED + (this.doneCons & (SLOTS - 1));
    const slot = Atomics.exchange(this.words, place, -1);
    // The place was taken by a thread that has not written it yet: soon.
    if (slot < 0) return -1;
    this.doneCons = (this.doneCons + 1) | 0;
    return slot;
  }
  clearFinished(): void {
    this.words.fill(-1, FINISHED, FINISHED + SLOTS);
  }
  status(slot: number): number {
    return this.words[TABLE + slot * SLOT_WORDS + STATUS];
  }
  /** How long the finished transfer took its thread. */
  microseconds(slot: number): number {
    return this.words[TABLE + slot * SLOT_WORDS + MICROSECONDS];
  }
  /** The link looks now: it is to be told again of what follows. */
  looking(): void {
    Atomics.store(this.words, SIGNALLED, 0);
  }
  close(): void {
    Atomics.store(this.words, CLOSING, 1);
    Atomics.notify(this.words, SUBMIT_PROD);
  }

  // --- a thread's side ---

  /** Waits for a slot to do; -1 when the link closes. */
  take(): number {
    const { words } = this;
    for (;;) {
      const prod = Atomics.load(words, SUBMIT_PROD);
      const cons = Atomics.load(words, SUBMIT_CONS);
      if (cons !== prod) {
        const slot = words[SUBMITTED + (cons & (SLOTS - 1))];
        if (Atomics.compareExchange(words, SUBMIT_CONS, cons, (cons + 1) | 0) === cons) return slot;
        continue;
      }
      if (Atomics.load(words, CLOSING) !== 0) return -1;
      Atomics.add(words, SLEEPERS, 1);
      Atomics.wait(words, SUBMIT_PROD, prod);
      Atomics.sub(words, SLEEPERS, 1);
    }
  }
  read(slot: number, into: SlotRequest): void {
    const at = TABLE + slot * SLOT_WORDS;
    const { unsigned: u } = this;
    into.operation = u[at + OPERATION];
    into.sector = u[at + SECTOR + 1] * TWO32 + u[at + SECTOR];
    into.sectors = u[at + SECTORS + 1] * TWO32 + u[at + SECTORS];
    into.nrExtents = u[at + NR_EXTENTS];
    for (let i = 0; i < into.nrExtents; i++) {
      into.address[i] = u[at + EXTENTS + 2 * i];
      into.length[i] = u[at + EXTENTS + 2 * i + 1];
    }
  }
  /** Gives a slot back; true when the link has to be told. */
  finish(slot: number, status: number, microseconds: number): boolean {
    const { words } = this;
    words[TABLE + slot * SLOT_WORDS + MICROSECONDS] = microseconds;
    words[TABLE + slot * SLOT_WORDS + STATUS] = status;
    const prod = Atomics.add(words, DONE_PROD, 1);
    Atomics.store(words, FINISHED + (prod & (SLOTS - 1)), slot);
    return Atomics.exchange(words, SIGNALLED, 1) === 0;
  }
}
