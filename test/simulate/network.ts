/**
 * Connections of a simulated world. Between two hosts they are slow, are cut, and stall for a while. If one side dies,
 * its machine closes them, unless that machine has lost its power.
 */
import type { Actor, Dice, Time } from './time.js';

/** The place of one end of a connection: a machine that may lose its power. */
export interface Place {
  readonly index: number;
  readonly up: boolean;
  /** How often it was switched on. */
  readonly boot: number;
}

type Listener = (value: never) => void;

/** One end of a connection: it carries bytes, or anything else, in order. */
export class End {
  closed = false;
  readonly writableLength = 0;
  other!: End;
  private readonly listeners = new Map<string, Listener[]>();
  private readonly inbox: unknown[] = [];
  private taking = false;
  private stopped = false;
  /** Nothing that is sent from here arrives before this time. */
  arrives = 0;
  private readonly boot: number;

  constructor(
    private readonly network: Network,
    readonly place: Place,
    readonly owner: Actor,
    readonly pair: Pair,
  ) {
    this.boot = place.boot;
  }

  /** Its machine has lost its power since the connection was made. */
  get lost(): boolean {
    return !this.place.up || this.place.boot !== this.boot;
  }

  on(event: string, listener: Listener): this {
    const all = this.listeners.get(event);
    if (all === undefined) this.listeners.set(event, [listener]);
    else all.push(listener);
    if (event === 'data') queueMicrotask(() => this.take());
    return this;
  }
  private emit(event: string, value?: unknown): void {
    for (const listener of this.listeners.get(event) ?? []) listener(value as never);
  }

  write(what: unknown): boolean {
    if (!this.closed && this.owner.alive) this.network.send(this, what);
    return true;
  }
  pause(): void {
    this.stopped = true;
  }
  resume(): void {
    this.stopped = false;
    this.take();
  }
  end(): void {
    this.destroy();
  }
  /** What was written before arrives before the other side learns of the end. */
  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    this.network.ends.delete(this);
    if (this.owner.alive) this.network.send(this, CLOSED);
    queueMicrotask(() => this.owner.alive && this.emit('close'));
  }
  /** The other side is gone, and our machine has noticed. */
  gone(): void {
    if (this.closed) return;
    this.inbox.push(CLOSED);
    this.take();
  }

  arrive(what: unknown): void {
    if (this.pair.cut) return;
    if (this.lost) {
      // A machine that was restarted knows nothing of the connection.
      if (this.place.up) this.network.tellGone(this.other);
      return;
    }
    if (this.closed || !this.owner.alive) {
      // Its machine answers that nobody listens here.
      if (what !== CLOSED) this.network.tellGone(this.other);
      return;
    }
    this.inbox.push(what);
    this.take();
  }
  private take(): void {
    if (this.taking) return;
    const { owner } = this;
    // What arrives before anybody listens is kept.
    if (!this.listeners.has('data')) {
      if (this.inbox.includes(CLOSED)) this.network.ends.delete(this);
      return;
    }
    while (this.inbox.length > 0 && !this.stopped && owner.alive && !this.closed) {
      if (owner.isStill) {
        this.taking = true;
        owner.does(() => {
          this.taking = false;
          this.take();
        });
        return;
      }
      const what = this.inbox.shift();
      if (what === CLOSED) {
        this.closed = true;
        this.network.ends.delete(this);
        this.emit('end');
        this.emit('close');
      } else this.emit('data', what);
    }
  }
}

const CLOSED = Symbol('closed');

export interface Pair {
  cut: boolean;
}

/** One direction between two hosts. */
class Way {
  held: (() => void)[] | undefined;
  least = 0.1;
  most = 1;
}

export class Network {
  readonly ends = new Set<End>();
  private readonly ways = new Map<number, Way>();
  constructor(
    readonly time: Time,
    private readonly dice: Dice,
  ) {}

  private way(from: number, to: number): Way {
    const key = from * 16 + to;
    let way = this.ways.get(key);
    if (way === undefined) {
      way = new Way();
      if (from === to) [way.least, way.most] = [0.02, 0.1];
      this.ways.set(key, way);
    }
    return way;
  }

  pair(one: [Place, Actor], two: [Place, Actor]): [End, End] {
    const pair = { cut: false };
    const a = new End(this, one[0], one[1], pair);
    const b = new End(this, two[0], two[1], pair);
    a.other = b;
    b.other = a;
    this.ends.add(a);
    this.ends.add(b);
    return [a, b];
  }

  send(from: End, what: unknown): void {
    if (from.lost || from.pair.cut) return;
    const way = this.way(from.place.index, from.other.place.index);
    const go = (): void => {
      from.arrives = Math.max(from.arrives, this.time.now + this.dice.between(way.least, way.most));
      this.time.at(from.arrives, () => from.other.arrive(what));
    };
    if (way.held !== undefined) way.held.push(go);
    else go();
  }

  tellGone(end: End): void {
    if (end.lost) return;
    const way = this.way(end.other.place.index, end.place.index);
    const go = (): void => void this.time.after(this.dice.between(way.least, way.most), () => end.gone());
    if (way.held !== undefined) way.held.push(go);
    else go();
  }

  /** How long a message takes from one host to another; undefined where none arrives. */
  delay(from: number, to: number): number | undefined {
    const way = this.way(from, to);
    return way.held !== undefined || this.way(to, from).held !== undefined
      ? undefined
      : this.dice.between(way.least, way.most);
  }

  /** A process died: its machine closes its connections. */
  died(owner: Actor): void {
    for (const end of this.ends) {
      if (end.owner !== owner) continue;
      this.ends.delete(end);
      if (!end.lost) this.tellGone(end.other);
    }
  }

  // --- faults ---

  /** All connections between the two are lost; each side notices that at its own time. */
  cut(a: number, b: number): void {
    for (const end of this.ends) {
      const between = end.place.index === a && end.other.place.index === b;
      if (!between || end.pair.cut) continue;
      end.pair.cut = true;
      const { other } = end;
      this.time.after(this.dice.between(0, 1), () => end.gone());
      this.time.after(this.dice.chance(0.2) ? this.dice.between(0, 20_000) : this.dice.between(0, 5), () =>
        other.gone(),
      );
    }
  }
  /** Messages from one to the other are held back from now on. */
  hold(from: number, to: number): void {
    this.way(from, to).held ??= [];
  }
  release(from: number, to: number): void {
    const way = this.way(from, to);
    const { held = [] } = way;
    way.held = undefined;
    for (const go of held) go();
  }
  slow(from: number, to: number, most: number): void {
    this.way(from, to).most = most;
  }
  heal(): void {
    for (const [key, way] of this.ways) {
      this.release(key >> 4, key & 15);
      if (key >> 4 !== (key & 15)) way.most = 1;
    }
  }
}
