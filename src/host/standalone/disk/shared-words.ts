/**
 * Words of 32 bits that threads share, as a ring sees them: every access of its protocol is one call here. Tests give it
 * words of their own, which stop at each access and try every order (test/support/interleaving.ts).
 */
export interface SharedWords {
  /** Sequentially consistent, as all but `read` and `write` are. */
  load(at: number): number;
  store(at: number, value: number): void;
  /** These three give what was there before. */
  add(at: number, value: number): number;
  exchange(at: number, value: number): number;
  compareExchange(at: number, expected: number, value: number): number;
  /** Sleeps until a `notify`, if the word is `value` by then. */
  wait(at: number, value: number): void;
  notify(at: number, count: number): void;
  /** Of words that one thread has at a time: some pair of the above orders these against those of another. */
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
