/**
 * One ring of a disk. Invariant: every consumed request is answered exactly once, and responses are published in
 * whole batches.
 */
import { BlkifRequest, BlkifResponse } from '../../xen/blkif.js';
import {
  attachBackRing,
  type BackRing,
  finalCheckForRequests,
  pushResponses,
  requestProducerOverflows,
  ringSlots,
  unconsumedRequests,
} from '../../xen/ring.js';
import type { Port } from '../../xen/types.js';
import type { GuestAccess } from '../guest-access.js';
import { XenbusError } from '../xenbus.js';
import { SlotReader } from './slots.js';

interface SavedQueue {
  readonly refs: readonly number[];
  readonly port: number;
  readonly reqCons: number;
  readonly rspProd: number;
}

export class Queue {
  /** True after the front end has written indices that are impossible for the ring. It is not served any more. */
  broken = false;
  private unpublished = false;
  private readonly slot = new SlotReader();
  private readonly answer = new SlotReader();

  private constructor(
    private readonly access: GuestAccess,
    readonly ring: BackRing,
    private readonly refs: readonly number[],
    readonly port: Port,
  ) {}

  /** Maps the ring's pages and binds the port. Throws XenbusError. */
  static connect(access: GuestAccess, refs: readonly number[], port: number, onNotify: () => void): Queue {
    const pages: number[] = [];
    for (const ref of refs) {
      const page = access.grantMap(ref, true);
      if (page < 0) {
        for (const mapped of refs.slice(0, pages.length)) access.grantUnmap(mapped, true);
        throw new XenbusError(`ring-ref ${ref} cannot be mapped (${page})`);
      }
      pages.push(page);
    }
    const bound = access.bindBackend(port as Port, onNotify);
    if (bound < 0) {
      for (const ref of refs) access.grantUnmap(ref, true);
      throw new XenbusError(`event-channel ${port} cannot be bound (${bound})`);
    }
    const ring = attachBackRing(access.mem, pages, BlkifRequest.sizeof);
    return new Queue(access, ring, refs, port as Port);
  }

  /**
   * Restores a queue whose ring is already mapped and whose port is already bound. Returns undefined if they are not.
   */
  static restore(access: GuestAccess, saved: SavedQueue, onNotify: () => void): Queue | undefined {
    const pages = saved.refs.map((ref) => access.grantMapped(ref));
    if (pages.length === 0 || pages.some((page) => page < 0)) return undefined;
    if (access.bindBackend(saved.port as Port, onNotify) < 0) return undefined;
    const slots = ringSlots(pages.length * 4096, BlkifRequest.sizeof);
    const ring: BackRing = {
      pages,
      slotBytes: BlkifRequest.sizeof,
      slots,
      req_cons: saved.reqCons,
      rsp_prod_pvt: saved.rspProd,
    };
    return new Queue(access, ring, saved.refs, saved.port as Port);
  }

  save(): SavedQueue {
    const { req_cons, rsp_prod_pvt } = this.ring;
    return { refs: this.refs, port: this.port, reqCons: req_cons, rspProd: rsp_prod_pvt };
  }

  disconnect(): void {
    this.access.unbindBackend(this.port);
    for (const ref of this.refs) this.access.grantUnmap(ref, true);
  }

  /**
   * Returns the slot of the next request. If there is none, it asks the front end to signal the next request and
   * returns undefined.
   */
  next(): SlotReader | undefined {
    const { ring } = this;
    const { mem } = this.access;
    if (this.broken) return undefined;
    if (requestProducerOverflows(mem, ring)) {
      this.broken = true;
      return undefined;
    }
    if (unconsumedRequests(mem, ring) === 0 && !finalCheckForRequests(mem, ring)) {
      this.access.touch(ring.pages[0]);
      return undefined;
    }
    const slot = this.slot.set(ring, ring.req_cons);
    ring.req_cons = (ring.req_cons + 1) >>> 0;
    return slot;
  }

  /** Writes a response into the ring. The front end sees it after `publish`. */
  respond(idLow: number, idHigh: number, op: number, status: number): void {
    const { ring } = this;
    const { mem } = this.access;
    const slot = this.answer.set(ring, ring.rsp_prod_pvt);
    const id = slot.at(BlkifResponse.id);
    this.access.touch(id);
    mem.setU32(id, idLow);
    mem.setU32(id + 4, idHigh);
    const rest = slot.at(BlkifResponse.operation);
    this.access.touch(rest);
    mem.setU8(rest, op);
    mem.setU16(slot.at(BlkifResponse.status), status);
    ring.rsp_prod_pvt = (ring.rsp_prod_pvt + 1) >>> 0;
    this.unpublished = true;
  }

  publish(): void {
    if (!this.unpublished) return;
    this.unpublished = false;
    this.access.touch(this.ring.pages[0]);
    if (pushResponses(this.access.mem, this.ring)) this.access.notify(this.port);
  }

  /** The number of slots in the ring, and the number of requests that are consumed but not answered. */
  get slots(): number {
    return this.ring.slots;
  }
  get unanswered(): number {
    return (this.ring.req_cons - this.ring.rsp_prod_pvt) >>> 0;
  }
}
