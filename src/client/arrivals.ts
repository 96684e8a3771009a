/**
 * Events that arrive without a request, to be consumed one by one with `for await`. Invariant: at most `most` wait,
 * measured by `weigh`; if more arrive, the oldest are dropped and counted.
 */
export class Arrivals<T> implements AsyncIterableIterator<T> {
  /** How many were dropped because they were not consumed in time. */
  missed = 0;
  private readonly waiting: T[] = [];
  private weight = 0;
  private ended = false;
  private failure: Error | undefined;
  private readonly takers: {
    resolve(result: IteratorResult<T>): void;
    reject(error: Error): void;
  }[] = [];

  constructor(
    private readonly most: number,
    private readonly weigh: (one: T) => number = () => 1,
    /** Called when the consumer stops early. */
    private readonly left: () => void = () => {},
  ) {}

  push(one: T): void {
    if (this.ended) return;
    const taker = this.takers.shift();
    if (taker !== undefined) {
      taker.resolve({ done: false, value: one });
      return;
    }
    this.waiting.push(one);
    this.weight += this.weigh(one);
    while (this.weight > this.most && this.waiting.length > 1) {
      this.weight -= this.weigh(this.waiting.shift()!);
      this.missed++;
    }
  }

  /** Nothing more arrives; what waits can still be consumed. */
  end(failure?: Error): void {
    if (this.ended) return;
    this.ended = true;
    this.failure = failure;
    for (const { resolve, reject } of this.takers.splice(0)) {
      if (failure === undefined) resolve({ done: true, value: undefined });
      else reject(failure);
    }
  }

  next(): Promise<IteratorResult<T>> {
    const one = this.waiting.shift();
    if (one !== undefined) {
      this.weight -= this.weigh(one);
      return Promise.resolve({ done: false, value: one });
    }
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.takers.push({ resolve, reject });
    });
  }

  return(): Promise<IteratorResult<T>> {
    this.waiting.length = 0;
    this.weight = 0;
    this.end();
    this.left();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
