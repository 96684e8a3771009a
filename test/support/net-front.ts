/**
 * The guest's side of a vif without a guest: rings, granted pages and event channels in a small memory of its own, used
 * as netfront uses them. It serves tests of the back end and benches of it alone.
 */
import type { GuestAccess } from '../../src/devices/guest-access.js';
import type { VifTimers } from '../../src/devices/links.js';
import { Vif, type VifConfig } from '../../src/devices/vif/vif.js';
import { FrontEnd } from '../../src/devices/xenbus.js';
import { copyFrame, type Frame } from '../../src/net/frame.js';
import type { LinkClient, NetLink } from '../../src/net/link.js';
import { concatBytes } from '../../src/records/record.js';
import { LinearMemory } from '../../src/xen/memory.js';
import {
  NETRXF_extra_info,
  NETRXF_more_data,
  NETTXF_extra_info,
  NETTXF_more_data,
  NetifExtraInfo,
  NetifRxRequest,
  NetifRxResponse,
  NetifTxRequest,
  NetifTxResponse,
  XEN_NETIF_EXTRA_FLAG_MORE,
} from '../../src/xen/netif.js';
import {
  type FrontRing,
  freeRequests,
  initFrontRing,
  pushRequests,
  Sring,
  slotAddress,
  unconsumedResponses,
} from '../../src/xen/ring.js';
import type { Port } from '../../src/xen/types.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';

const PAGE = 4096;
export const MAC = '00:16:3e:00:00:01';
const HOME = '/local/domain/1/device/vif/0';

/** The frames that a vif sent, and a way to give it some. */
export class TestLink implements NetLink {
  readonly name = 'test';
  up = true;
  writable = true;
  reading = true;
  sent: Frame[] = [];
  flushed = 0;
  constructor(readonly offloads: boolean) {}
  send(frame: Frame): void {
    this.sent.push(copyFrame(frame));
  }
  flush(): void {
    this.flushed++;
  }
  setReading(on: boolean): void {
    this.reading = on;
  }
  async close(): Promise<void> {}
}

/** A clock that stands still until it is advanced. */
export class TestTimers implements VifTimers {
  ms = 0;
  private waiting: { at: number; run: () => void }[] = [];
  now(): number {
    return this.ms;
  }
  after(ms: number, run: () => void): () => void {
    const one = { at: this.ms + ms, run };
    this.waiting.push(one);
    return () => {
      this.waiting = this.waiting.filter((w) => w !== one);
    };
  }
  advance(ms: number): void {
    const end = this.ms + ms;
    for (;;) {
      const next = this.waiting.filter((w) => w.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.waiting = this.waiting.filter((w) => w !== next);
      this.ms = next.at;
      next.run();
    }
    this.ms = end;
  }
}

/** A memory of so many pages, each granted under its own number; page 0 is granted to nobody. */
export class TestMemory implements GuestAccess {
  readonly mem: LinearMemory;
  readonly readonlyRefs = new Set<number>();
  readonly refused = new Set<number>();
  /** The mappings in use, by reference. */
  readonly pins = new Map<number, number>();
  readonly handlers = new Map<number, () => void>();
  readonly notified: number[] = [];
  readonly touched = new Set<number>();

  constructor(readonly pages: number) {
    this.mem = new LinearMemory(new ArrayBuffer(pages * PAGE));
  }
  grantMap(ref: number, write: boolean): number {
    if (!(ref > 0 && ref < this.pages) || this.refused.has(ref)) return -3;
    if (write && this.readonlyRefs.has(ref)) return -1;
    this.pins.set(ref, (this.pins.get(ref) ?? 0) + 1);
    return ref * PAGE;
  }
  grantMapped(ref: number): number {
    return (this.pins.get(ref) ?? 0) > 0 ? ref * PAGE : -1;
  }
  grantUnmap(ref: number): void {
    this.pins.set(ref, (this.pins.get(ref) ?? 0) - 1);
  }
  get pinned(): number {
    return [...this.pins.values()].reduce((sum, n) => sum + n, 0);
  }
  bindBackend(port: Port, onNotify: () => void): number {
    if (port < 1 || port > 100) return -22;
    this.handlers.set(port, onNotify);
    return 0;
  }
  unbindBackend(port: Port): void {
    this.handlers.delete(port);
  }
  notify(port: Port): void {
    this.notified.push(port);
  }
  touch(linear: number): void {
    this.touched.add(Math.floor(linear / PAGE));
  }
}

export interface Extra {
  readonly type: number;
  /** The bytes of the union, from offset 2 on. */
  readonly u: readonly number[];
}
export interface Packet {
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly extras: Uint8Array[];
  /** A slot had an error. */
  readonly failed: boolean;
}

/** One queue of the front end: its rings, data pages for both directions, and ports. */
export class FrontQueue {
  readonly tx: FrontRing;
  readonly rx: FrontRing;
  readonly txPages: number;
  readonly rxPages: number;
  private nextTx = 0;
  /** The page for an rx id. */
  private readonly rxPage = new Map<number, number>();
  private nextRx = 0;
  readonly statuses: number[] = [];
  private partial: { bytes: Uint8Array[]; flags: number; extras: Uint8Array[]; failed: boolean } | undefined;
  readonly packets: Packet[] = [];

  /** Takes pages from `base` on: two for rings, 256 for each direction. */
  constructor(
    readonly access: TestMemory,
    readonly base: number,
    readonly txPort: number,
    readonly rxPort: number,
  ) {
    this.tx = initFrontRing(access.mem, [base * PAGE], NetifTxRequest.sizeof);
    this.rx = initFrontRing(access.mem, [(base + 1) * PAGE], NetifRxRequest.sizeof);
    this.txPages = base + 2;
    this.rxPages = base + 2 + 256;
  }

  /** Puts a packet into the ring, cut into pieces of `sizes` bytes (by default one piece). It is not pushed yet. */
  put(
    bytes: Uint8Array,
    flags = 0,
    extras: readonly Extra[] = [],
    sizes: readonly number[] = cut(bytes.length),
  ): void {
    const { mem } = this.access;
    let from = 0;
    for (const [i, size] of sizes.entries()) {
      const page = this.txPages + (this.nextTx++ & 255);
      const offset = i === 0 ? 0 : PAGE - size;
      mem.u8.set(bytes.subarray(from, from + size), page * PAGE + offset);
      from += size;
      const moreFlag = i < sizes.length - 1 ? NETTXF_more_data : 0;
      const first = i === 0 ? flags | (extras.length > 0 ? NETTXF_extra_info : 0) : 0;
      this.slot(page, offset, first | moreFlag, i === 0 ? bytes.length : size);
      if (i === 0) for (const [e, extra] of extras.entries()) this.extra(extra, e < extras.length - 1);
    }
  }

  /** Puts one raw request into the ring. */
  slot(gref: number, offset: number, flags: number, size: number, id = this.tx.req_prod_pvt & 0xffff): void {
    const { mem } = this.access;
    const at = slotAddress(this.tx, this.tx.req_prod_pvt++);
    mem.setU32(at + NetifTxRequest.gref, gref);
    mem.setU16(at + NetifTxRequest.offset, offset);
    mem.setU16(at + NetifTxRequest.flags, flags);
    mem.setU16(at + NetifTxRequest.id, id);
    mem.setU16(at + NetifTxRequest.size, size);
  }
  extra(extra: Extra, moreExtras: boolean): void {
    const { mem } = this.access;
    const at = slotAddress(this.tx, this.tx.req_prod_pvt++);
    mem.bytes(at, NetifTxRequest.sizeof).fill(0);
    mem.setU8(at + NetifExtraInfo.type, extra.type);
    mem.setU8(at + NetifExtraInfo.flags, moreExtras ? XEN_NETIF_EXTRA_FLAG_MORE : 0);
    mem.u8.set(extra.u, at + 2);
  }

  /** Publishes the requests; notifies the back end if it asked for that. */
  push(): void {
    if (pushRequests(this.access.mem, this.tx)) this.access.handlers.get(this.txPort)?.();
  }
  send(bytes: Uint8Array, flags = 0, extras: readonly Extra[] = [], sizes?: readonly number[]): void {
    this.put(bytes, flags, extras, sizes);
    this.push();
  }
  get freeTx(): number {
    return freeRequests(this.tx);
  }

  /** Takes all transmit responses. */
  reap(): number[] {
    const { mem } = this.access;
    const got: number[] = [];
    for (let n = unconsumedResponses(mem, this.tx); n > 0; n--) {
      const status = mem.view.getInt16(
        slotAddress(this.tx, this.tx.rsp_cons++) + NetifTxResponse.status,
        true,
      );
      if (status !== 1) got.push(status);
    }
    mem.setU32(this.tx.pages[0] + Sring.rsp_event, this.tx.rsp_cons + 1);
    this.statuses.push(...got);
    return got;
  }

  /** Fills the receive ring with up to `count` buffers. */
  post(count = 256): void {
    const { mem } = this.access;
    for (let n = Math.min(count, freeRequests(this.rx)); n > 0; n--) {
      const id = this.nextRx & 255;
      const page = this.rxPages + id;
      this.nextRx++;
      this.rxPage.set(id, page);
      const at = slotAddress(this.rx, this.rx.req_prod_pvt++);
      mem.setU16(at + NetifRxRequest.id, id);
      mem.setU32(at + NetifRxRequest.gref, page);
    }
    if (pushRequests(mem, this.rx)) this.access.handlers.get(this.rxPort)?.();
  }

  /** Takes the packets that have arrived and appends them to `packets`. */
  receive(): Packet[] {
    const { mem } = this.access;
    const from = this.packets.length;
    let extraNext = false;
    for (let n = unconsumedResponses(mem, this.rx); n > 0; n--) {
      const at = slotAddress(this.rx, this.rx.rsp_cons++);
      if (extraNext) {
        this.partial?.extras.push(mem.bytes(at, 8).slice());
        extraNext = (mem.getU8(at + NetifExtraInfo.flags) & XEN_NETIF_EXTRA_FLAG_MORE) !== 0;
        if (!extraNext) this.end();
        continue;
      }
      const flags = mem.getU16(at + NetifRxResponse.flags);
      const status = mem.view.getInt16(at + NetifRxResponse.status, true);
      this.partial ??= { bytes: [], flags, extras: [], failed: false };
      if (status < 0) this.partial.failed = true;
      else {
        const page = this.rxPage.get(mem.getU16(at + NetifRxResponse.id))!;
        const start = page * PAGE + mem.getU16(at + NetifRxResponse.offset);
        this.partial.bytes.push(mem.bytes(start, status).slice());
      }
      this.moreData = (flags & NETRXF_more_data) !== 0;
      extraNext = (flags & NETRXF_extra_info) !== 0;
      if (!extraNext) this.end();
    }
    mem.setU32(this.rx.pages[0] + Sring.rsp_event, this.rx.rsp_cons + 1);
    return this.packets.slice(from);
  }
  private moreData = false;
  private end(): void {
    if (this.moreData || this.partial === undefined) return;
    this.packets.push({ ...this.partial, bytes: concatBytes(this.partial.bytes) });
    this.partial = undefined;
  }
}

/** The first piece has up to a page, the others whole pages. */
const cut = (bytes: number): number[] => {
  const sizes = [Math.min(bytes, PAGE)];
  for (let left = bytes - sizes[0]; left > 0; left -= PAGE) sizes.push(Math.min(left, PAGE));
  return sizes;
};

export type FrontNodes = Readonly<Record<string, string | number>>;
/** The features that Linux's netfront declares. */
export const LINUX_FEATURES: FrontNodes = {
  'request-rx-copy': 1,
  'feature-rx-notify': 1,
  'feature-sg': 1,
  'feature-gso-tcpv4': 1,
  'feature-gso-tcpv6': 1,
  'feature-ipv6-csum-offload': 1,
};

export interface FrontOptions {
  readonly features?: FrontNodes;
  readonly queues?: number;
  readonly offloads?: boolean;
  readonly config?: Partial<VifConfig>;
  /** One event channel for both directions. */
  readonly oneChannel?: boolean;
}

/** A vif and its front end, connected. */
export class VifBench {
  readonly server = new XenstoreServer();
  readonly front: FrontEnd;
  readonly access: TestMemory;
  readonly queues: FrontQueue[] = [];
  readonly link: TestLink;
  readonly timers = new TestTimers();
  readonly log: string[] = [];
  vif: Vif;

  constructor(private readonly options: FrontOptions = {}) {
    const count = options.queues ?? 1;
    this.access = new TestMemory(1 + 514 * count);
    this.front = new FrontEnd(this.server.local(0), HOME);
    this.link = new TestLink(options.offloads ?? true);
    for (let i = 0; i < count; i++) {
      const txPort = 10 + 2 * i;
      this.queues.push(
        new FrontQueue(this.access, 1 + 514 * i, txPort, options.oneChannel ? txPort : txPort + 1),
      );
    }
    this.write(options.features ?? LINUX_FEATURES);
    if (count > 1) this.write({ 'multi-queue-num-queues': count });
    for (const [i, q] of this.queues.entries()) {
      const prefix = count > 1 ? `queue-${i}/` : '';
      this.write({ [`${prefix}tx-ring-ref`]: q.base, [`${prefix}rx-ring-ref`]: q.base + 1 });
      if (options.oneChannel) this.write({ [`${prefix}event-channel`]: q.txPort });
      else this.write({ [`${prefix}event-channel-tx`]: q.txPort, [`${prefix}event-channel-rx`]: q.rxPort });
    }
    this.vif = this.makeVif();
  }
  makeVif(): Vif {
    const config = { mac: MAC, rate: undefined, ...this.options.config };
    const vif = new Vif(this.access, config, '', (line) => this.log.push(line));
    vif.setLink(this.link, this.timers);
    return vif;
  }
  write(nodes: FrontNodes): void {
    const store = this.server.local(0);
    for (const [name, value] of Object.entries(nodes)) store.write(`${HOME}/${name}`, String(value));
  }
  remove(name: string): void {
    this.server.local(0).remove(`${HOME}/${name}`);
  }
  get queue(): FrontQueue {
    return this.queues[0];
  }
  connect(): this {
    this.vif.connect(this.front);
    this.vif.start();
    return this;
  }
  /** Passes frames from the link, as one batch. */
  arrive(...frames: Frame[]): void {
    const client: LinkClient = this.vif;
    for (const frame of frames) client.receive(copyFrame(frame));
    client.received();
  }
}
