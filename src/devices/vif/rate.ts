/** Limits a guest to the rate of its vif: a number of bytes in each interval, as netback's credit does. */
import type { VifRate } from '../../guest/vif-spec.js';

export class Credit {
  /**
   * The credit that is left, in bytes. It is negative after a packet larger than one interval's credit, until that is
   * paid back.
   */
  private left: number;
  private intervalEnds = 0;

  constructor(private readonly rate: VifRate) {
    this.left = rate.bytesPerInterval;
  }

  /** Tries to spend `bytes` at the time `now` (ms). Returns 0, or how many ms to wait before the next attempt. */
  take(bytes: number, now: number): number {
    const { bytesPerInterval, intervalUs } = this.rate;
    if (now >= this.intervalEnds) {
      const intervals = 1 + Math.floor(((now - this.intervalEnds) * 1000) / intervalUs);
      this.left = Math.min(bytesPerInterval, this.left + intervals * bytesPerInterval);
      this.intervalEnds = Math.max(now, this.intervalEnds + (intervals * intervalUs) / 1000);
    }
    if (bytes > this.left && this.left < bytesPerInterval) return Math.max(1, this.intervalEnds - now);
    this.left -= bytes;
    return 0;
  }
}
