/** The timers of one vif on its present host. All of them can be cancelled at once when the guest is stopped. */
import type { VifTimers } from '../links.js';

export class Alarms {
  private readonly pending = new Set<() => void>();

  constructor(private readonly timers: VifTimers) {}

  now(): number {
    return this.timers.now();
  }

  after(ms: number, run: () => void): void {
    const cancel = this.timers.after(ms, () => {
      this.pending.delete(cancel);
      run();
    });
    this.pending.add(cancel);
  }

  cancelAll(): void {
    for (const cancel of this.pending) cancel();
    this.pending.clear();
  }
}
