/**
 * Packets out of the guest: chains of requests in the transmit ring. They are checked, copied out of the granted
 * pages, and answered.
 *
 * Invariants: a packet is taken only when all its slots are in the ring, so no packet is half assembled between two
 * calls. Its slots are read once, and every slot that is taken is answered in the same call. A bad packet gets an
 * error response and does no other harm. A ring with bad indices, or with a packet that has no end, is marked broken
 * and never read again. Source: xen/include/public/io/netif.h; Linux, drivers/net/xen-netback/netback.c
 * (xenvif_count_requests, xenvif_tx_build_gops, make_tx_response).
 */
import { leaveChecksum } from '../../net/checksum.js';
import {
  DATA_VALID,
  ETHERNET_HEADER_BYTES,
  type Frame,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  MIN_GSO_BYTES,
} from '../../net/frame.js';
import { findHeaders, newHeaders } from '../../net/headers.js';
import { readMac } from '../../net/mac.js';
import { segmentHeaderBytes } from '../../net/segment.js';
import type { LinearMemory } from '../../xen/memory.js';
import {
  NETIF_RSP_NULL,
  NETTXF_csum_blank,
  NETTXF_data_validated,
  NETTXF_extra_info,
  NETTXF_more_data,
  NetifExtraInfo,
  NetifTxRequest,
  NetifTxResponse,
  XEN_NETIF_EXTRA_FLAG_MORE,
  XEN_NETIF_EXTRA_TYPE_GSO,
  XEN_NETIF_EXTRA_TYPE_MAX,
  XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
  XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
  XEN_NETIF_EXTRA_TYPE_NONE,
  XEN_NETIF_GSO_TYPE_TCPV4,
  XEN_NETIF_GSO_TYPE_TCPV6,
  XEN_NETIF_NR_SLOTS_MIN,
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
const MAX_PACKET_BYTES = 0xffff;

/** The result of `peek`. */
export const Found = { nothing: 0, packet: 1, broken: 2 } as const;

const headers = newHeaders();

export class TxRing {
  private readonly mem: LinearMemory;
  /**
   * The slots of the packet that was found: how many are requests (with the first one in front), and how many are
   * extra infos.
   */
  private requests = 0;
  private extras = 0;
  private readonly grefs: Uint32Array;
  private readonly offsets: Uint16Array;
  private readonly ids: Uint16Array;
  private readonly sizes: Uint16Array;
  private flags = 0;
  private badExtra = false;
  private gsoType = 0;
  private gsoSize = 0;
  /** XEN_NETIF_EXTRA_TYPE_MCAST_ADD or _DEL if the slots hold such a request instead of a packet; otherwise 0. */
  multicast = 0;
  multicastMac = 0;
  /** Why the ring is broken. */
  trouble = '';
  /** The guest's producer index when it was last read. */
  private seen = 0;
  private readonly buffer = new Uint8Array(MAX_PACKET_BYTES);

  constructor(
    private readonly access: GuestAccess,
    readonly ring: BackRing,
  ) {
    this.mem = access.mem;
    this.grefs = new Uint32Array(ring.slots);
    this.offsets = new Uint16Array(ring.slots);
    this.ids = new Uint16Array(ring.slots);
    this.sizes = new Uint16Array(ring.slots);
  }

  /** Size of the packet that was found, in bytes, as its first slot gives it. */
  get size(): number {
    return this.sizes[0];
  }

  /** Looks for a complete packet. What was found stays valid whatever the guest does to the ring afterwards. */
  peek(): number {
    const { mem, ring } = this;
    this.seen = mem.getU32(ring.pages[0] + Sring.req_prod);
    const there = (this.seen - ring.req_cons) >>> 0;
    if (there === 0) return Found.nothing;
    if (there > ring.slots || requestProducerOverflows(mem, ring))
      return this.broken('more requests than slots');
    this.requests = 0;
    this.extras = 0;
    this.badExtra = false;
    this.gsoType = XEN_NETIF_EXTRA_TYPE_NONE;
    this.multicast = 0;
    let used = 0;
    for (let more = true; more; ) {
      if (used === there) return this.unfinished(there);
      const flags = this.readRequest(ring.req_cons + used++);
      if (this.requests++ === 0) {
        this.flags = flags;
        if (flags & NETTXF_extra_info) {
          let moreExtras = true;
          while (moreExtras) {
            if (used === there) return this.unfinished(there);
            moreExtras = this.readExtra(ring.req_cons + used++);
            this.extras++;
          }
        }
      }
      more = (flags & NETTXF_more_data) !== 0;
    }
    return Found.packet;
  }

  private unfinished(there: number): number {
    return there < this.ring.slots ? Found.nothing : this.broken('a packet without end');
  }
  private broken(why: string): number {
    this.trouble = `transmit ring: ${why}`;
    return Found.broken;
  }

  private readRequest(index: number): number {
    const at = slotAddress(this.ring, index);
    const { mem, requests } = this;
    const offsetAndFlags = mem.getU32(at + NetifTxRequest.offset);
    const idAndSize = mem.getU32(at + NetifTxRequest.id);
    this.grefs[requests] = mem.getU32(at + NetifTxRequest.gref);
    this.offsets[requests] = offsetAndFlags;
    this.ids[requests] = idAndSize;
    this.sizes[requests] = idAndSize >>> 16;
    return offsetAndFlags >>> 16;
  }

  /** Returns true if another extra info follows. */
  private readExtra(index: number): boolean {
    const at = slotAddress(this.ring, index);
    const { mem } = this;
    const typeAndFlags = mem.getU16(at + NetifExtraInfo.type);
    const type = typeAndFlags & 0xff;
    if (type === XEN_NETIF_EXTRA_TYPE_NONE || type >= XEN_NETIF_EXTRA_TYPE_MAX) this.badExtra = true;
    else if (type === XEN_NETIF_EXTRA_TYPE_GSO) {
      this.gsoSize = mem.getU16(at + NetifExtraInfo.u_gso_size);
      const gso = mem.getU8(at + NetifExtraInfo.u_gso_type);
      if (gso === XEN_NETIF_GSO_TYPE_TCPV4) this.gsoType = GSO_TCPV4;
      else if (gso === XEN_NETIF_GSO_TYPE_TCPV6) this.gsoType = GSO_TCPV6;
      else this.badExtra = true;
      if (this.gsoSize < MIN_GSO_BYTES) this.badExtra = true;
    } else if (type === XEN_NETIF_EXTRA_TYPE_MCAST_ADD || type === XEN_NETIF_EXTRA_TYPE_MCAST_DEL) {
      this.multicast = type;
      this.multicastMac = readMac(mem.u8, at + NetifExtraInfo.u_mcast_addr);
    }
    return ((typeAndFlags >>> 8) & XEN_NETIF_EXTRA_FLAG_MORE) !== 0;
  }

  /**
   * Copies the packet that was found into `f`, whose bytes stay valid until the next call. Returns false if the
   * packet is bad.
   */
  copy(f: Frame): boolean {
    const { requests, sizes, offsets } = this;
    const total = sizes[0];
    if (this.badExtra || requests > XEN_NETIF_NR_SLOTS_MIN || total < ETHERNET_HEADER_BYTES) return false;
    // The first slot gives the size of the whole packet. Its own part is what remains after the other slots.
    let first = total;
    for (let i = 1; i < requests; i++) {
      if (sizes[i] > first) return false;
      first -= sizes[i];
    }
    let to = 0;
    for (let i = 0; i < requests; i++) {
      const size = i === 0 ? first : sizes[i];
      if (offsets[i] + size > PAGE || !this.copySlot(i, size, to)) return false;
      to += size;
    }
    f.bytes = this.buffer.subarray(0, total);
    return this.describe(f);
  }

  private copySlot(i: number, size: number, to: number): boolean {
    const page = this.access.grantMap(this.grefs[i], false);
    if (page < 0) return false;
    const from = page + this.offsets[i];
    this.buffer.set(this.mem.u8.subarray(from, from + size), to);
    this.access.grantUnmap(this.grefs[i], false);
    return true;
  }

  /** Sets in `f` what work the guest has left to do. Returns false if that does not match the headers. */
  private describe(f: Frame): boolean {
    f.flags = 0;
    f.csumStart = 0;
    f.csumOffset = 0;
    f.gsoType = GSO_NONE;
    f.gsoSize = 0;
    if (this.gsoType !== GSO_NONE) {
      const head = segmentHeaderBytes(f.bytes, this.gsoType);
      if (head === 0) return false;
      findHeaders(f.bytes, headers);
      if (headers.end - head > this.gsoSize) {
        f.gsoType = this.gsoType;
        f.gsoSize = this.gsoSize;
      }
      return leaveChecksum(f, headers);
    }
    if (this.flags & NETTXF_csum_blank) {
      findHeaders(f.bytes, headers);
      return leaveChecksum(f, headers);
    }
    if (this.flags & NETTXF_data_validated) f.flags = DATA_VALID;
    return true;
  }

  /** Answers all slots of the packet that was found. */
  respond(status: number): void {
    const { ring } = this;
    this.access.touch(ring.pages[0]);
    for (let i = 0; i < this.requests; i++) {
      this.write(this.ids[i], status);
      if (i === 0) for (let extra = 0; extra < this.extras; extra++) this.write(0, NETIF_RSP_NULL);
    }
    ring.req_cons = ring.rsp_prod_pvt;
  }

  private write(id: number, status: number): void {
    const at = slotAddress(this.ring, this.ring.rsp_prod_pvt);
    this.mem.setU16(at + NetifTxResponse.id, id);
    this.mem.setU16(at + NetifTxResponse.status, status & 0xffff);
    this.ring.rsp_prod_pvt = (this.ring.rsp_prod_pvt + 1) >>> 0;
  }

  /** Publishes the responses. Returns true if the guest wants to be notified of them. */
  push(): boolean {
    if (this.mem.getU32(this.ring.pages[0] + Sring.rsp_prod) === this.ring.rsp_prod_pvt) return false;
    this.access.touch(this.ring.pages[0]);
    return pushResponses(this.mem, this.ring);
  }

  /**
   * To be called before waiting: asks the guest to signal its next request. Returns true if there are already more
   * requests.
   */
  finalCheck(): boolean {
    const head = this.ring.pages[0];
    this.access.touch(head);
    this.mem.setU32(head + Sring.req_event, (this.seen + 1) >>> 0);
    return this.mem.getU32(head + Sring.req_prod) !== this.seen;
  }
}
