/**
 * Prepares a guest's code before the guest is here, in short turns between the arrivals of its memory. Invariant: it is
 * of use and never needed; it may be stopped at any time, and after that it touches the guest no more.
 */
import type { IncomingGuest } from './moving-guest.js';

/** Between two looks at the clock. */
const AT_A_TIME = 16;
/** Of a turn. */
const TURN_MS = 1;

export class CodePreparation {
  private next = 0;
  private turn: NodeJS.Immediate | undefined;

  constructor(
    private readonly guest: IncomingGuest,
    private readonly starts: readonly number[],
  ) {
    if (guest.warmUp !== undefined) this.turn = setImmediate(() => this.prepare());
  }

  private prepare(): void {
    const { starts } = this;
    const { warmUp } = this.guest;
    const end = performance.now() + TURN_MS;
    while (this.next < starts.length && performance.now() < end) {
      const pause = Math.min(this.next + AT_A_TIME, starts.length);
      while (this.next < pause) warmUp?.prepareCode(starts[this.next++]);
    }
    this.turn = this.next < starts.length ? setImmediate(() => this.prepare()) : undefined;
  }

  stop(): void {
    clearImmediate(this.turn);
    this.turn = undefined;
  }
}
