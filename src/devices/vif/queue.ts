/**
 * One queue of a vif: a transmit and a receive ring of the guest, their event-channel ports, and the backlog of
 * frames for which the receive ring has no room yet.
 *
 * Invariant: from construction to `close` the rings' grants are mapped; the ports are bound from `bind` (or
 * `restore`, which finds them bound) to `unbind`.
 */
import { copyFrame, type Frame } from '../../net/frame.js';
import { NetifRxRequest, NetifTxRequest } from '../../xen/netif.js';
import { attachBackRing, type BackRing } from '../../xen/ring.js';
import type { Port } from '../../xen/types.js';
import type { GuestAccess } from '../guest-access.js';
import { XenbusError } from '../xenbus.js';
import { Put, RxRing } from './rx-ring.js';
import { TxRing } from './tx-ring.js';

/**
 * The size of a queue's backlog at which it counts as full, in bytes. The vif then stops reading from its link, so
 * that further frames wait in the link and finally at their sender.
 */
const BACKLOG_BYTES = 512 * 1024;

/** The front end's grants and ports of one queue. */
export interface QueueEnds {
  readonly txRef: number;
  readonly rxRef: number;
  /** Both ports are the same if the front end does not split its event channels. */
  readonly txPort: number;
  readonly rxPort: number;
}

export class VifQueue {
  readonly tx: TxRing;
  readonly rx: RxRing;
  backlog: Frame[] = [];
  backlogBytes = 0;
  /** True after the front end has broken a ring. The queue stops until the front end connects again. */
  broken = false;
  /** True while a packet waits for credit (the vif's rate limit). A timer will try again. */
  waits = false;
  /** True if there may be packets in the transmit ring for which no further event will come. */
  txOwed = true;
  /** True if frames arrived while the guest was stopped and the guest has not been notified of them. */
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

  /** Maps the front end's rings. Throws XenbusError; in that case nothing stays mapped. */
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

  /** Restores the queue of a restored guest, whose grants are already mapped. Returns undefined if they are not. */
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

  /** Binds the ports. Throws XenbusError; in that case no port stays bound. */
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

  /** Unmaps the rings. */
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

  /** Adds a copy of a frame to the backlog. Returns false if the backlog is full, and the frame is lost. */
  wait(f: Frame): boolean {
    if (this.full) return false;
    this.backlog.push(copyFrame(f));
    this.backlogBytes += f.bytes.length;
    return true;
  }

  /** Moves frames from the backlog into the ring as long as there is room. Returns Put.done if the backlog is empty. */
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
