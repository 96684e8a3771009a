/**
 * A block front end without a guest: it has its own pages, grants and ports, and does the whole handshake with the real
 * back end over a real xenstore. It counts what it has granted, so that a test can check what the back end still holds.
 */
import type { GuestAccess } from '../../src/devices/guest-access.js';
import type { DiskLink } from '../../src/devices/vbd/disk-link.js';
import { Vbd } from '../../src/devices/vbd/vbd.js';
import { type SavedXenbusDevice, XenbusBackend } from '../../src/devices/xenbus.js';
import { plant } from '../../src/devices/xenstore.js';
import { deviceTree } from '../../src/guest/device-tree.js';
import { parseDisk } from '../../src/guest/disk-spec.js';
import { vbdNodes } from '../../src/guest/vbd-tree.js';
import {
  BLKIF_OP_DISCARD,
  BLKIF_OP_INDIRECT,
  BlkifRequest,
  BlkifRequestDiscard,
  BlkifRequestIndirect,
  BlkifResponse,
} from '../../src/xen/blkif.js';
import { LinearMemory } from '../../src/xen/memory.js';
import {
  type FrontRing,
  freeRequests,
  initFrontRing,
  pushRequests,
  readSlot,
  unconsumedResponses,
  writeSlot,
} from '../../src/xen/ring.js';
import type { Port } from '../../src/xen/types.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';

export const PAGE = 4096;
export const VDEV = 51712;
const FRONT = `/local/domain/1/device/vbd/${VDEV}`;
const BACK = `/local/domain/0/backend/vbd/1/${VDEV}`;

/** Pages with grants: reference i is page i; page 0 is never granted. */
export class FrontMemory implements GuestAccess {
  readonly mem: LinearMemory;
  /** Bit 0: granted. Bit 1: read-only. */
  readonly granted: Uint8Array;
  readonly readers: Uint16Array;
  readonly writers: Uint16Array;
  readonly touched: Uint8Array;
  private readonly handlers = new Map<number, () => void>();
  onEvent: (port: number) => void = () => undefined;

  constructor(
    readonly pages: number,
    buffer = new SharedArrayBuffer(pages * PAGE),
  ) {
    this.mem = new LinearMemory(buffer);
    this.granted = new Uint8Array(pages);
    this.readers = new Uint16Array(pages);
    this.writers = new Uint16Array(pages);
    this.touched = new Uint8Array(pages);
  }

  bindBackend(port: Port, onNotify: () => void): number {
    if (port < 1 || port > 64) return -22;
    this.handlers.set(port, onNotify);
    return 0;
  }
  unbindBackend(port: Port): void {
    this.handlers.delete(port);
  }
  notify(port: Port): void {
    this.onEvent(port);
  }
  /** The front end's event. */
  send(port: number): void {
    this.handlers.get(port)?.();
  }
  grantMap(ref: number, write: boolean): number {
    if (!(ref > 0 && ref < this.pages) || this.granted[ref] === 0) return -3;
    if (write && this.granted[ref] & 2) return -1;
    (write ? this.writers : this.readers)[ref]++;
    return ref * PAGE;
  }
  grantMapped(ref: number): number {
    return ref < this.pages && this.readers[ref] + this.writers[ref] > 0 ? ref * PAGE : -1;
  }
  grantUnmap(ref: number, write: boolean): void {
    const pins = write ? this.writers : this.readers;
    if (pins[ref] === 0) throw new Error(`grant ${ref} is unmapped more often than it was mapped`);
    pins[ref]--;
  }
  touch(linear: number): void {
    this.touched[linear >>> 12] = 1;
  }
  /** The mappings that exist now. */
  get mapped(): number {
    let sum = 0;
    for (let i = 0; i < this.pages; i++) sum += this.readers[i] + this.writers[i];
    return sum;
  }
}

export interface FrontOptions {
  readonly queues?: number;
  /** The number of pages of each ring is 2 ** order. */
  readonly order?: number;
  readonly persistent?: boolean;
  readonly disk?: string;
}

export interface Segment {
  readonly ref: number;
  readonly first: number;
  readonly last: number;
}

export interface Response {
  readonly queue: number;
  readonly id: bigint;
  readonly operation: number;
  readonly status: number;
}

export class BlockFront {
  readonly server = new XenstoreServer();
  readonly guest = this.server.local(1);
  rings: FrontRing[] = [];
  vbd!: Vbd;
  bus!: XenbusBackend;
  gone = 0;
  readonly log: string[] = [];
  /** Pages of rings come first; data pages start here. */
  readonly dataPage: number;
  private readonly scratch = new LinearMemory(new ArrayBuffer(112));

  constructor(
    readonly memory: FrontMemory,
    readonly options: FrontOptions = {},
  ) {
    this.dataPage = 1 + (options.queues ?? 1) * (1 << (options.order ?? 0));
  }

  private back(): void {
    const spec = parseDisk(this.options.disk ?? '/disk,raw,xvda,w', (m) => {
      throw new Error(m);
    });
    this.vbd = new Vbd(this.memory, JSON.stringify(spec), (line) => this.log.push(line));
    const id = { kind: 'vbd', devid: VDEV, domid: 1 };
    this.bus = new XenbusBackend(this.server.local(0), id, this.vbd, {
      log: (line) => this.log.push(line),
      gone: () => this.gone++,
    });
  }

  /** Plugs the disk in. */
  plug(link: DiskLink): this {
    this.back();
    this.vbd.use(link);
    const spec = parseDisk(this.options.disk ?? '/disk,raw,xvda,w', (m) => {
      throw new Error(m);
    });
    plant(this.server.local(0), deviceTree({ ...vbdNodes(spec), domid: 1 }));
    this.bus.begin();
    return this;
  }

  node(name: string): string {
    return this.guest.read(`${BACK}/${name}`);
  }
  set(name: string, value: string | number): void {
    this.guest.write(`${FRONT}/${name}`, String(value));
  }
  get backState(): number {
    return Number(this.node('state'));
  }

  /** Makes rings and goes to Connected, as Linux does. */
  connect(): this {
    const { queues = 1, order = 0, persistent = true } = this.options;
    this.rings = Array.from({ length: queues }, (_, q) => {
      const refs = Array.from({ length: 1 << order }, (_, i) => 1 + (q << order) + i);
      for (const ref of refs) this.memory.granted[ref] = 1;
      const at = queues === 1 ? '' : `queue-${q}/`;
      if (order === 0) this.set(`${at}ring-ref`, refs[0]);
      else for (const [i, ref] of refs.entries()) this.set(`${at}ring-ref${i}`, ref);
      this.set(`${at}event-channel`, 1 + q);
      return initFrontRing(
        this.memory.mem,
        refs.map((ref) => ref * PAGE),
        112,
      );
    });
    if (order > 0) this.set('ring-page-order', order);
    if (queues > 1) this.set('multi-queue-num-queues', queues);
    this.set('protocol', 'x86_64-abi');
    this.set('feature-persistent', persistent ? 1 : 0);
    this.set('state', 3);
    this.set('state', 4);
    return this;
  }

  /**
   * The same guest on another host: its memory, its xenstore and its grants, with another back end and another link.
   */
  async move(link: DiskLink): Promise<void> {
    await this.bus.pause();
    const saved: SavedXenbusDevice = this.bus.save('{}');
    this.bus.stop();
    this.back();
    this.bus.restore(saved);
    this.vbd.use(link);
    this.bus.resume();
  }

  room(queue = 0): number {
    return freeRequests(this.rings[queue]);
  }

  private put(queue: number, fill: (mem: LinearMemory) => void): void {
    const ring = this.rings[queue];
    this.scratch.u8.fill(0);
    fill(this.scratch);
    writeSlot(this.memory.mem, ring, ring.req_prod_pvt, this.scratch.u8);
    ring.req_prod_pvt = (ring.req_prod_pvt + 1) >>> 0;
  }

  request(operation: number, id: bigint, sector: number, segments: readonly Segment[], queue = 0): void {
    this.put(queue, (mem) => {
      mem.setU8(BlkifRequest.operation, operation);
      mem.setU8(BlkifRequest.nr_segments, segments.length);
      mem.setBig(BlkifRequest.id, id);
      mem.setU64(BlkifRequest.sector_number, sector);
      for (const [i, s] of segments.entries()) writeSegment(mem, BlkifRequest.seg + 8 * i, s);
    });
  }

  /** `pages`: the granted pages that hold the segments. */
  indirect(
    operation: number,
    id: bigint,
    sector: number,
    segments: readonly Segment[],
    pages: readonly number[],
    queue = 0,
  ): void {
    segments.forEach((s, i) => {
      writeSegment(this.memory.mem, pages[Math.floor(i / 512)] * PAGE + 8 * (i % 512), s);
    });
    this.put(queue, (mem) => {
      mem.setU8(BlkifRequestIndirect.operation, BLKIF_OP_INDIRECT);
      mem.setU8(BlkifRequestIndirect.indirect_op, operation);
      mem.setU16(BlkifRequestIndirect.nr_segments, segments.length);
      mem.setBig(BlkifRequestIndirect.id, id);
      mem.setU64(BlkifRequestIndirect.sector_number, sector);
      for (const [i, page] of pages.entries()) mem.setU32(BlkifRequestIndirect.indirect_grefs + 4 * i, page);
    });
  }

  discard(id: bigint, sector: number, sectors: number, flag = 0, queue = 0): void {
    this.put(queue, (mem) => {
      mem.setU8(BlkifRequestDiscard.operation, BLKIF_OP_DISCARD);
      mem.setU8(BlkifRequestDiscard.flag, flag);
      mem.setBig(BlkifRequestDiscard.id, id);
      mem.setU64(BlkifRequestDiscard.sector_number, sector);
      mem.setU64(BlkifRequestDiscard.nr_sectors, sectors);
    });
  }

  /** Publishes the requests, and notifies the back end if it asked for that. */
  push(queue = 0): void {
    if (pushRequests(this.memory.mem, this.rings[queue])) this.memory.send(1 + queue);
  }

  /** Takes the responses that have arrived. */
  responses(): Response[] {
    const all: Response[] = [];
    const { mem } = this.memory;
    this.rings.forEach((ring, queue) => {
      for (let n = unconsumedResponses(mem, ring); n > 0; n--) {
        readSlot(mem, ring, ring.rsp_cons, this.scratch.u8);
        ring.rsp_cons = (ring.rsp_cons + 1) >>> 0;
        all.push({
          queue,
          id: this.scratch.getBig(BlkifResponse.id),
          operation: this.scratch.getU8(BlkifResponse.operation),
          status: (this.scratch.getU16(BlkifResponse.status) << 16) >> 16,
        });
      }
      mem.setU32(ring.pages[0] + 12, ring.rsp_cons + 1);
    });
    return all;
  }
}

function writeSegment(mem: LinearMemory, at: number, s: Segment): void {
  mem.setU32(at, s.ref);
  mem.setU8(at + 4, s.first);
  mem.setU8(at + 5, s.last);
}
