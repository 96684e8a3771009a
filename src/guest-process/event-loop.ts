/**
 * Runs a guest on Node's event loop: one slice of guest time, then whatever else the process has to do.
 *
 * Invariant: an idle guest costs no processor time, and a busy guest never delays the process's own events by more
 * than one slice.
 */

/**
 * The result of one slice. `wakeInNs` says how long the guest may sleep if nothing happens; undefined: until an
 * event.
 */
export type SliceResult =
  | { readonly state: 'running' }
  | { readonly state: 'idle'; readonly wakeInNs: number | undefined }
  | { readonly state: 'stopped' };

/** The length of a slice in nanoseconds. It is short enough for keys and packets, and long enough to cost little. */
const SLICE_NS = 2_000_000;
/** Shorter sleeps are spent in the event loop without a timer, because timers have a resolution of one millisecond. */
const SPIN_BELOW_NS = 1_000_000;

export class GuestLoop {
  private timer: NodeJS.Timeout | undefined;
  private scheduled: NodeJS.Immediate | undefined;
  private running = false;
  private inSlice = false;
  /** Total time spent in slices, in ms. */
  busyMs = 0;

  /**
   * `slice` runs the guest for at most the given time. `stopped` is called once, when `slice` has returned "stopped".
   */
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

  /** After this returns no slice begins until start(). */
  stop(): void {
    this.running = false;
    clearTimeout(this.timer);
    clearImmediate(this.scheduled as NodeJS.Immediate);
    this.scheduled = undefined;
  }

  /**
   * To be called when something happened that a sleeping guest may wait for (an event, a key). A slice that is
   * running notices it without this.
   */
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
