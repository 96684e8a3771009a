/** Holds a guest to the rate of its vif: so many bytes in each interval, as netback's credit does. */
import type { VifRate } from '../../guest/vif-spec.js';

export class Credit {
  /** Negative after a packet larger than an interval's bytes, until that is paid back. */
  private left: number;
  private intervalEnds = 0;

  constructor(private readonly rate: VifRate) {
    this.left = rate.bytesPerInterval;
  }

  /** Takes `bytes` at the time `now` (ms): 0, or how many ms to wait before asking again. */
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
