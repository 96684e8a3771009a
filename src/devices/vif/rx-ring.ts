/**
 * Packets into the guest: they are copied into the pages that the requests of the receive ring grant.
 *
 * Invariants: a packet is put into the ring completely or not at all, so that no packet is half delivered between two
 * calls. A request is read once; its slot then holds its response. If the guest does not let us write to a granted
 * page, that request gets an error response and the guest loses the packet. Source: xen/include/public/io/netif.h;
 * Linux, drivers/net/xen-netback/rx.c.
 */
import { DATA_VALID, type Frame, GSO_NONE, GSO_TCPV4, NEEDS_CSUM } from '../../net/frame.js';
import type { LinearMemory } from '../../xen/memory.js';
import {
  NETIF_RSP_ERROR,
  NETRXF_csum_blank,
  NETRXF_data_validated,
  NETRXF_extra_info,
  NETRXF_more_data,
  NetifExtraInfo,
  NetifRxRequest,
  NetifRxResponse,
  XEN_NETIF_EXTRA_TYPE_GSO,
  XEN_NETIF_GSO_TYPE_TCPV4,
  XEN_NETIF_GSO_TYPE_TCPV6,
} from '../../xen/netif.js';
import {
  type BackRing,
  pushResponses,
  requestProducerOverflows,
  Sring,
  slotAddress,
} from '../../xen/ring.js';
import type { GuestAccess } from '../guest-access.js';

const PAGE = 4096;

/** The result of `put`. */
export const Put = { done: 0, noRoom: 1, broken: 2 } as const;

export class RxRing {
  private readonly mem: LinearMemory;
  trouble = '';

  constructor(
    private readonly access: GuestAccess,
    readonly ring: BackRing,
  ) {
    this.mem = access.mem;
  }

  /** How many slots a frame takes. */
  static slots(f: Frame): number {
    return Math.ceil(f.bytes.length / PAGE) + (f.gsoType === GSO_NONE ? 0 : 1);
  }

  put(f: Frame): number {
    const { mem, ring } = this;
    const produced = mem.getU32(ring.pages[0] + Sring.req_prod);
    const there = (produced - ring.req_cons) >>> 0;
    if (there > ring.slots || requestProducerOverflows(mem, ring)) {
      this.trouble = 'receive ring: more requests than slots';
      return Put.broken;
    }
    if (there < RxRing.slots(f)) return Put.noRoom;
    this.access.touch(ring.pages[0]);
    const b = f.bytes;
    let flags = 0;
    if (f.flags & NEEDS_CSUM) flags = NETRXF_csum_blank | NETRXF_data_validated;
    else if (f.flags & DATA_VALID) flags = NETRXF_data_validated;
    if (f.gsoType !== GSO_NONE) flags |= NETRXF_extra_info;
    for (let at = 0; at < b.length; at += PAGE) {
      const size = Math.min(PAGE, b.length - at);
      this.putSlot(b, at, size, flags | (at + size < b.length ? NETRXF_more_data : 0));
      if (at === 0 && f.gsoType !== GSO_NONE) this.putGso(f);
      flags = 0;
    }
    return Put.done;
  }

  private next(): number {
    const { ring } = this;
    const at = slotAddress(ring, ring.req_cons);
    ring.req_cons = (ring.req_cons + 1) >>> 0;
    ring.rsp_prod_pvt = ring.req_cons;
    return at;
  }

  private putSlot(b: Uint8Array, from: number, size: number, flags: number): void {
    const { mem, access } = this;
    const at = this.next();
    const id = mem.getU16(at + NetifRxRequest.id);
    const gref = mem.getU32(at + NetifRxRequest.gref);
    const page = access.grantMap(gref, true);
    let status = size;
    if (page < 0) status = NETIF_RSP_ERROR;
    else {
      access.touch(page);
      mem.u8.set(b.length === size ? b : b.subarray(from, from + size), page);
      access.grantUnmap(gref, true);
    }
    mem.setU16(at + NetifRxResponse.id, id);
    mem.setU16(at + NetifRxResponse.offset, 0);
    mem.setU16(at + NetifRxResponse.flags, flags);
    mem.setU16(at + NetifRxResponse.status, status & 0xffff);
  }

  private putGso(f: Frame): void {
    const { mem } = this;
    const at = this.next();
    const type = f.gsoType === GSO_TCPV4 ? XEN_NETIF_GSO_TYPE_TCPV4 : XEN_NETIF_GSO_TYPE_TCPV6;
    mem.setU16(at + NetifExtraInfo.type, XEN_NETIF_EXTRA_TYPE_GSO);
    mem.setU16(at + NetifExtraInfo.u_gso_size, f.gsoSize);
    mem.setU16(at + NetifExtraInfo.u_gso_type, type);
    mem.setU16(at + NetifExtraInfo.u_gso_features, 0);
  }

  /** Publishes the responses. Returns true if the guest wants to be notified of them. */
  push(): boolean {
    if (this.mem.getU32(this.ring.pages[0] + Sring.rsp_prod) === this.ring.rsp_prod_pvt) return false;
    this.access.touch(this.ring.pages[0]);
    return pushResponses(this.mem, this.ring);
  }

  /** Asks the guest to signal its next request. Returns true if there are more requests than before. */
  wantMore(): boolean {
    const head = this.ring.pages[0];
    const produced = this.mem.getU32(head + Sring.req_prod);
    this.access.touch(head);
    this.mem.setU32(head + Sring.req_event, (produced + 1) >>> 0);
    return this.mem.getU32(head + Sring.req_prod) !== produced;
  }
}
