/**
 * Words of 32 bits that threads share, as a ring uses them: each access of the ring's protocol is one call here.
 * Tests use an implementation that stops at each access and tries every order (test/support/interleaving.ts).
 */
export interface SharedWords {
  /** All operations are sequentially consistent, except `read` and `write`. */
  load(at: number): number;
  store(at: number, value: number): void;
  /** These three return the previous value. */
  add(at: number, value: number): number;
  exchange(at: number, value: number): number;
  compareExchange(at: number, expected: number, value: number): number;
  /** Waits until a `notify`, but only if the word still equals `value`. */
  wait(at: number, value: number): void;
  notify(at: number, count: number): void;
  /**
   * Plain accesses, for words that only one thread uses at a time. Pairs of the operations above order them between
   * threads.
   */
  read(at: number): number;
  write(at: number, value: number): void;
}

export class AtomicWords implements SharedWords {
  private readonly words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  load(at: number): number {
    return Atomics.load(this.words, at);
  }
  store(at: number, value: number): void {
    Atomics.store(this.words, at, value);
  }
  add(at: number, value: number): number {
    return Atomics.add(this.words, at, value);
  }
  exchange(at: number, value: number): number {
    return Atomics.exchange(this.words, at, value);
  }
  compareExchange(at: number, expected: number, value: number): number {
    return Atomics.compareExchange(this.words, at, expected, value);
  }
  wait(at: number, value: number): void {
    Atomics.wait(this.words, at, value);
  }
  notify(at: number, count: number): void {
    Atomics.notify(this.words, at, count);
  }
  read(at: number): number {
    return this.words[at];
  }
  write(at: number, value: number): void {
    this.words[at] = value;
  }
}
