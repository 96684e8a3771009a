/**
 * The clients that want to hear of every change of a domain.
 *
 * Invariant: at most MOST_UNSENT_BYTES wait for a client that does not read. The events that it misses are counted,
 * and the next event that it gets has that count.
 */
import { CONTROL_NOTICES, type DomainEvent } from '../../protocol/control.js';
import type { Rpc } from '../../protocol/rpc.js';
import { say } from '../../protocol/table.js';

const MOST_UNSENT_BYTES = 256 << 10;

export class DomainEvents {
  /** The connections of the clients, with the number of events that each has missed since its last one. */
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
