/**
 * Random numbers and time of a simulated world. Everything that happens is an event at its own time; events of the same
 * time happen in the order in which they were made. Between two events, all promises that can continue do so: no
 * promise waits for anything else.
 */

/** Random numbers from a seed (mulberry32). */
export class Dice {
  private state: number;
  constructor(seed: number) {
    this.state = seed >>> 0;
    // Seeds that are close to one another give unrelated numbers.
    for (let i = 0; i < 3; i++) this.next();
  }
  /** A number from 0 to less than 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  }
  below(n: number): number {
    return Math.floor(this.next() * n);
  }
  chance(p: number): boolean {
    return this.next() < p;
  }
  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)];
  }
}

export interface Happening {
  cancel(): void;
}

interface Event extends Happening {
  readonly at: number;
  readonly order: number;
  what: (() => void) | undefined;
}

/** How many events run in one iteration of Node's event loop; promises continue between any two. */
const EVENTS_A_TURN = 32;

export class Time {
  /** The time in ms. */
  now = 0;
  events = 0;
  private order = 0;
  private heap: Event[] = [];

  at(ms: number, what: () => void): Happening {
    const event: Event = {
      at: Math.max(ms, this.now),
      order: this.order++,
      what,
      cancel() {
        event.what = undefined;
      },
    };
    this.push(event);
    return event;
  }

  after(ms: number, what: () => void): Happening {
    return this.at(this.now + ms, what);
  }

  /** Lets time pass until then, or until `over`. */
  run(until: number, over: () => boolean = () => false): Promise<void> {
    return new Promise((done, failed) => {
      let waiting = 0;
      const take = (): void => {
        waiting--;
        try {
          if (over()) {
            stop();
            return;
          }
          const event = this.first();
          if (event === undefined || event.at > until) {
            // Promises may still make events when this iteration ends.
            if (waiting > 0) return;
            if (this.first() === undefined || this.first()!.at > until) {
              this.now = Math.max(this.now, until);
              stop();
              return;
            }
          } else {
            this.pop();
            this.now = event.at;
            this.events++;
            event.what!();
          }
        } catch (error) {
          stopped = true;
          failed(error);
        }
        if (waiting === 0) turn();
      };
      let stopped = false;
      const stop = (): void => {
        if (!stopped) done();
        stopped = true;
      };
      const turn = (): void => {
        if (stopped) return;
        for (; waiting < EVENTS_A_TURN; waiting++) setImmediate(() => (stopped ? waiting-- : take()));
      };
      turn();
    });
  }

  private first(): Event | undefined {
    while (this.heap.length > 0 && this.heap[0].what === undefined) this.pop();
    return this.heap[0];
  }

  /** The events that are still to happen. */
  get pending(): number {
    return this.heap.filter((event) => event.what !== undefined).length;
  }

  private before(a: Event, b: Event): boolean {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }
  private push(event: Event): void {
    const { heap } = this;
    let i = heap.push(event) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!this.before(event, heap[up])) break;
      heap[i] = heap[up];
      i = up;
    }
    heap[i] = event;
  }
  private pop(): void {
    const { heap } = this;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let down = 2 * i + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && this.before(heap[down + 1], heap[down])) down++;
      if (!this.before(heap[down], last)) break;
      heap[i] = heap[down];
      i = down;
    }
    heap[i] = last;
  }
}

/** An actor in a world, a daemon or a guest's process, which can be dead or stand still. */
export class Actor {
  alive = true;
  private stillUntil = 0;
  private readonly held: (() => void)[] = [];

  constructor(
    readonly time: Time,
    readonly name: string,
  ) {}

  after(ms: number, what: () => void): Happening {
    return this.time.after(ms, () => this.does(what));
  }

  every(ms: number, what: () => void): Happening {
    const again = (): void => {
      next = this.after(ms, again);
      what();
    };
    let next = this.after(ms, again);
    return { cancel: () => next.cancel() };
  }

  /** Calls at once, or when the actor no longer stands still; never, if it is dead then. */
  does(what: () => void): void {
    if (!this.alive) return;
    if (this.isStill) this.held.push(what);
    else what();
  }

  /** Never resolves for an actor that has died meanwhile. */
  sleep(ms: number): Promise<void> {
    return new Promise((done) => {
      this.after(ms, done);
    });
  }

  get isStill(): boolean {
    return this.time.now < this.stillUntil;
  }
  standStill(ms: number): void {
    this.stillUntil = Math.max(this.stillUntil, this.time.now + ms);
    this.time.at(this.stillUntil, () => {
      if (!this.isStill) this.goOn();
    });
  }
  goOn(): void {
    this.stillUntil = 0;
    for (const what of this.held.splice(0)) this.time.after(0, () => this.does(what));
  }
}
