/**
 * One queue of a vif: a transmit and a receive ring of the guest, their ports, and the frames that wait for the
 * guest to make room. Invariant: its grants are mapped and its ports bound from construction to `close`.
 */
import { copyFrame, type Frame } from '../../net/frame.js';
import { NetifRxRequest, NetifTxRequest } from '../../xen/netif.js';
import { attachBackRing, type BackRing } from '../../xen/ring.js';
import type { Port } from '../../xen/types.js';
import type { GuestAccess } from '../guest-access.js';
import { XenbusError } from '../xenbus.js';
import { Put, RxRing } from './rx-ring.js';
import { TxRing } from './tx-ring.js';

/** What waits for the guest beyond its ring: more is left with the link, and then with its sender. */
export const BACKLOG_BYTES = 512 * 1024;

/** Where the front end has put its end of a queue. */
export interface QueueEnds {
  readonly txRef: number;
  readonly rxRef: number;
  /** The same for both directions where the front end does not split its event channels. */
  readonly txPort: number;
  readonly rxPort: number;
}

export class VifQueue {
  readonly tx: TxRing;
  readonly rx: RxRing;
  backlog: Frame[] = [];
  backlogBytes = 0;
  /** The front end broke a ring: the queue stands still until it connects anew. */
  broken = false;
  /** A packet waits for credit, and a timer will look again. */
  waits = false;
  /** Packets stand in the transmit ring of which nobody will tell us again. */
  txOwed = true;
  /** Frames came while the guest stood still, and it has not been told. */
  rxOwed = true;

  private constructor(
    private readonly access: GuestAccess,
    readonly ends: QueueEnds,
    tx: BackRing,
    rx: BackRing,
  ) {
    this.tx = new TxRing(access, tx);
    this.rx = new RxRing(access, rx);
  }

  /** Takes the front end's rings and ports. Throws XenbusError; then nothing is held. */
  static connect(access: GuestAccess, ends: QueueEnds): VifQueue {
    const held: (() => void)[] = [];
    const ring = (ref: number, slotBytes: number): BackRing => {
      const page = access.grantMap(ref, true);
      if (page < 0) throw new XenbusError(`ring-ref ${ref} cannot be mapped (status ${page})`);
      held.push(() => access.grantUnmap(ref, true));
      return attachBackRing(access.mem, [page], slotBytes);
    };
    try {
      const tx = ring(ends.txRef, NetifTxRequest.sizeof);
      const rx = ring(ends.rxRef, NetifRxRequest.sizeof);
      return new VifQueue(access, ends, tx, rx);
    } catch (error) {
      for (const release of held) release();
      throw error;
    }
  }

  /** The queue of a restored guest, whose grants are mapped. Undefined if they are not. */
  static restore(
    access: GuestAccess,
    ends: QueueEnds,
    txIndex: number,
    rxIndex: number,
  ): VifQueue | undefined {
    const txPage = access.grantMapped(ends.txRef);
    const rxPage = access.grantMapped(ends.rxRef);
    if (txPage < 0 || rxPage < 0) return undefined;
    const tx = attachBackRing(access.mem, [txPage], NetifTxRequest.sizeof);
    const rx = attachBackRing(access.mem, [rxPage], NetifRxRequest.sizeof);
    tx.req_cons = tx.rsp_prod_pvt = txIndex;
    rx.req_cons = rx.rsp_prod_pvt = rxIndex;
    return new VifQueue(access, ends, tx, rx);
  }

  /** Takes the far ends of the ports. Throws XenbusError; then none is taken. */
  bind(onTx: () => void, onRx: () => void): void {
    const { access, ends } = this;
    const split = ends.txPort !== ends.rxPort;
    const both = (): void => {
      onTx();
      onRx();
    };
    this.bindPort(ends.txPort, split ? onTx : both);
    if (!split) return;
    try {
      this.bindPort(ends.rxPort, onRx);
    } catch (error) {
      access.unbindBackend(ends.txPort as Port);
      throw error;
    }
  }
  private bindPort(port: number, onNotify: () => void): void {
    if (this.access.bindBackend(port as Port, onNotify) !== 0)
      throw new XenbusError(`event channel ${port} is not one that the guest opened for domain 0`);
  }

  unbind(): void {
    this.access.unbindBackend(this.ends.txPort as Port);
    this.access.unbindBackend(this.ends.rxPort as Port);
  }

  /** Lets go of the rings. */
  close(): void {
    this.access.grantUnmap(this.ends.txRef, true);
    this.access.grantUnmap(this.ends.rxRef, true);
    this.clearBacklog();
  }

  clearBacklog(): void {
    this.backlog = [];
    this.backlogBytes = 0;
  }

  get full(): boolean {
    return this.backlogBytes >= BACKLOG_BYTES;
  }

  /** A frame waits; false when too much does, and it is lost. */
  wait(f: Frame): boolean {
    if (this.full) return false;
    this.backlog.push(copyFrame(f));
    this.backlogBytes += f.bytes.length;
    return true;
  }

  /** Puts what waits into the ring as far as there is room. Put.done: nothing waits any more. */
  drain(): number {
    let at = 0;
    let result: number = Put.done;
    while (at < this.backlog.length) {
      result = this.rx.put(this.backlog[at]);
      if (result === Put.noRoom && !this.rx.wantMore()) break;
      if (result === Put.noRoom) continue;
      if (result === Put.broken) break;
      this.backlogBytes -= this.backlog[at++].bytes.length;
    }
    if (at > 0) this.backlog.splice(0, at);
    return result;
  }
}
