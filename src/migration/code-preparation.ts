/**
 * Translates a guest's code before the guest runs here, in short turns while its memory arrives. Invariant: it only
 * saves time and is never needed. It may be stopped at any time and does not touch the guest after that.
 */
import type { IncomingGuest } from './moving-guest.js';

/** How many places are prepared between two readings of the clock. */
const AT_A_TIME = 16;
/** The length of a turn, in ms. */
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
