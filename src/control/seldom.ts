/**
 * Limits the rate of an action, for example a log line, that a guest, its process or another host can trigger: a few
 * at once, and then a few a minute. Actions that are suppressed are not remembered.
 */
import type { Clock } from '../os/clock.js';

export class Seldom {
  private left: number;
  private since: number;

  constructor(
    private readonly clock: Clock,
    private readonly most = 10,
    private readonly perMinute = 6,
  ) {
    this.left = most;
    this.since = clock.monotonicMs();
  }

  allows(now = this.clock.monotonicMs()): boolean {
    this.left = Math.min(this.most, this.left + ((now - this.since) / 60_000) * this.perMinute);
    this.since = now;
    if (this.left < 1) return false;
    this.left--;
    return true;
  }
}
