/**
 * Drives a guest on Node's event loop: a slice of guest time, then whatever else the process has to do.
 * Invariant: an idle guest costs no processor time, and a busy one never keeps the process from its own events
 * for longer than a slice.
 */

/** Result of one slice. `wakeInNs`: how long the guest may sleep if nothing happens; undefined: until an event. */
export type SliceResult =
  | { readonly state: 'running' }
  | { readonly state: 'idle'; readonly wakeInNs: number | undefined }
  | { readonly state: 'stopped' };

/** Length of a slice in nanoseconds: short enough for keys and packets, long enough to be cheap. */
const SLICE_NS = 2_000_000;
/** Sleeps shorter than this are spun through the event loop, since timers have a grain of a millisecond. */
const SPIN_BELOW_NS = 1_000_000;

export class GuestLoop {
  private timer: NodeJS.Timeout | undefined;
  private scheduled: NodeJS.Immediate | undefined;
  private running = false;
  private inSlice = false;
  /** Time spent in slices since the beginning, ms. */
  busyMs = 0;

  /** `slice` runs the guest for at most the given time; `stopped` is told once when it says it has stopped. */
  constructor(
    private readonly slice: (limitNs: number) => SliceResult,
    private readonly stopped: () => void,
    private readonly failed: (error: unknown) => void,
  ) {}

  start(): void {
    if (this.running) return;
    this.running = true;
    this.soon();
  }

  /** No slice begins after this returns, until start(). */
  stop(): void {
    this.running = false;
    clearTimeout(this.timer);
    clearImmediate(this.scheduled as NodeJS.Immediate);
    this.scheduled = undefined;
  }

  /** Something happened that may concern a sleeping guest: an event, a key. A slice under way sees it itself. */
  kick(): void {
    if (this.running && !this.inSlice && this.scheduled === undefined) {
      clearTimeout(this.timer);
      this.soon();
    }
  }

  private soon(): void {
    this.scheduled = setImmediate(this.turn);
  }

  private readonly turn = (): void => {
    this.scheduled = undefined;
    if (!this.running) return;
    let result: SliceResult;
    const before = performance.now();
    this.inSlice = true;
    try {
      result = this.slice(SLICE_NS);
    } catch (error) {
      this.stop();
      this.failed(error);
      return;
    } finally {
      this.inSlice = false;
      this.busyMs += performance.now() - before;
    }
    if (!this.running) return;
    if (result.state === 'stopped') {
      this.stop();
      this.stopped();
    } else if (result.state === 'running') this.soon();
    else if (result.wakeInNs === undefined) this.timer = setTimeout(this.turn, 0x7fff_ffff);
    else if (result.wakeInNs < SPIN_BELOW_NS) this.soon();
    else this.timer = setTimeout(this.turn, Math.min(Math.floor(result.wakeInNs / 1e6), 0x7fff_ffff));
  };
}
