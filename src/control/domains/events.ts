/**
 * Who wants to hear of each change of a domain.
 * Invariant: of somebody who does not take what he is told no more than MOST_UNSENT_BYTES wait; what he misses is
 * counted, and the next event that he gets says how many there were.
 */
import { CONTROL_NOTICES, type DomainEvent } from '../../protocol/control.js';
import type { Rpc } from '../../protocol/rpc.js';
import { say } from '../../protocol/table.js';

const MOST_UNSENT_BYTES = 256 << 10;

export class DomainEvents {
  /** The connections of those who listen, and what each has missed since its last event. */
  private readonly watching = new Map<Rpc, number>();

  add(rpc: Rpc): void {
    if (rpc.closed || this.watching.has(rpc)) return;
    this.watching.set(rpc, 0);
    rpc.whenClosed(() => this.remove(rpc));
  }

  remove(rpc: Rpc): void {
    this.watching.delete(rpc);
  }

  tell(event: DomainEvent): void {
    for (const [rpc, missed] of this.watching) {
      const late = rpc.unsent > MOST_UNSENT_BYTES;
      this.watching.set(rpc, late ? missed + 1 : 0);
      if (!late) say(rpc, CONTROL_NOTICES, 'event', missed === 0 ? event : { ...event, missed });
    }
  }
}
