/**
 * A disk of the guest: it takes requests from the guest's rings, passes them to the host's link, and answers them.
 *
 * Invariants: each consumed request is answered exactly once, on whatever host it finishes. A request is lent to at
 * most one link at a time; a request that a link has given up is submitted again by `start`. What the guest was told
 * of the disk holds on every link: a link that is too small or read-only is refused, and other things that a link
 * cannot do are done here.
 */
import { type DiskSpec, readDiskSpec } from '../../protocol/guest-config.js';
import { RecordError } from '../../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord } from '../../records/record.js';
import { BLKIF_OP_DISCARD, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY } from '../../xen/blkif.js';
import { XenbusStateConnected, XenbusStateInitialised } from '../../xen/xenbus.js';
import type { GuestAccess } from '../guest-access.js';
import type { DevicePoint, HostLinks } from '../links.js';
import type { Bus, FrontEnd, Nodes, XenbusDriver } from '../xenbus.js';
import {
  DISK_DISCARD,
  DISK_FLUSH,
  DISK_READ,
  type DiskClient,
  type DiskLink,
  type DiskStatus,
} from './disk-link.js';
import {
  connectNodes,
  type DiskIdentity,
  MAX_PERSISTENT_GRANTS_PER_QUEUE,
  offeredNodes,
  readAgreement,
} from './features.js';
import { GrantedPages } from './grants.js';
import { Queue } from './queue.js';
import { BlockRequest } from './request.js';
import { vbdRecord } from './vbd-record.js';
import type { WrittenLog } from './written-log.js';

/** Counters since the guest was switched on or arrived on this host. */
interface DiskCounters {
  requests: number;
  sectorsRead: number;
  sectorsWritten: number;
  errors: number;
}

export class Vbd implements XenbusDriver, DiskClient<BlockRequest> {
  bus: Bus | undefined;
  readonly counters: DiskCounters = { requests: 0, sectorsRead: 0, sectorsWritten: 0, errors: 0 };
  /** While the disk is being copied, every finished write is noted here. */
  written: WrittenLog | undefined;
  private link: DiskLink | undefined;
  private identity: DiskIdentity | undefined;
  private persistent = false;
  private queues: Queue[] = [];
  private readonly pages: GrantedPages;
  /** Requests that are consumed but not answered, in no particular order. */
  private readonly active: BlockRequest[] = [];
  private readonly free: BlockRequest[] = [];
  private order = 0;
  /**
   * A consumed barrier that waits for all other requests to be done. No further request is consumed until then. It is
   * not in `active` yet.
   */
  private barrierWaits: BlockRequest | undefined;
  /** True while a barrier is in progress. */
  private barrierRuns = false;
  /** True while requests are taken from the rings. */
  private running = false;
  private serving = false;
  /**
   * True if the rings have to be looked at on the next start, because a signal may have arrived while requests were
   * not taken.
   */
  private owed = false;
  /** True while the link's lock is released for a migration. Requests wait until it is taken back. */
  private released = false;
  private retake: Promise<void> | undefined;
  private releasing: Promise<void> = Promise.resolve();
  readonly spec: DiskSpec;

  /** `spec` is a DiskSpec as JSON. */
  constructor(
    private readonly access: GuestAccess,
    spec: string,
    private readonly log: (line: string) => void,
  ) {
    this.pages = new GrantedPages(access);
    try {
      this.spec = readDiskSpec(spec);
    } catch (error) {
      throw new RecordError(0, (error as Error).message);
    }
  }

  // --- link ---

  /** Returns why this link cannot serve the disk that the guest knows, or undefined if it can. */
  unfit(link: DiskLink): string | undefined {
    const { identity: is } = this;
    const { geometry: g } = link;
    if (is === undefined) return undefined;
    if (g.sectors < is.sectors) return `${link.name} has ${g.sectors} sectors, the guest knows ${is.sectors}`;
    if (g.readOnly && !is.readOnly) return `${link.name} is read-only, the guest's disk is not`;
    if (g.sectorBytes > is.sectorBytes)
      return `${link.name} has sectors of ${g.sectorBytes} bytes, the guest's disk has ${is.sectorBytes}`;
    return undefined;
  }

  async attach(links: HostLinks, devid: number): Promise<void> {
    if (links.vbd === undefined) throw new Error('this host has no disks');
    const link = await links.vbd(devid, JSON.stringify(this.spec));
    const why = this.unfit(link);
    if (why !== undefined) {
      await link.close();
      throw new Error(`disk ${this.spec.vdev}: ${why}`);
    }
    this.use(link);
  }
  /** Gives the disk a link, which must fit. */
  use(link: DiskLink): void {
    this.identity ??= { ...link.geometry, cdrom: this.spec.cdrom };
    this.link = link;
    this.released = false;
    link.begin(this, this.access.mem, this.log);
    if (this.running) this.start();
  }

  async detach(): Promise<void> {
    const { link } = this;
    this.running = false;
    await this.retake;
    // The link is given up for good. Its server may or may not do what it has received, as when a machine loses
    // power.
    await link?.quiesce().catch((error: Error) => this.log(error.message));
    this.link = undefined;
    await link?.close();
  }

  async release(): Promise<void> {
    this.released = true;
    const releasing = this.link?.release() ?? Promise.resolve();
    this.releasing = releasing.catch(() => undefined);
    await releasing;
  }

  /** Takes the lock back, however long that takes. The guest's requests wait until then. */
  private async takeBack(link: DiskLink): Promise<void> {
    await this.releasing;
    for (let attempt = 0; this.link === link && this.running; attempt++) {
      try {
        await link.acquire();
        this.released = false;
        break;
      } catch (error) {
        if (attempt === 0) this.log(`${(error as Error).message}; requests wait for it`);
        await link.later();
      }
    }
    this.retake = undefined;
    if (!this.released && this.running) this.start();
  }

  points(): DevicePoint[] {
    const { spec } = this;
    return [
      {
        name: 'link',
        inner: () => {
          const is = this.identity;
          return is === undefined
            ? `${spec.vdev} (${spec.virtualDevice})`
            : `${spec.vdev} (${spec.virtualDevice}), ${is.sectors} sectors of 512, ${is.readOnly ? 'r' : 'w'}`;
        },
        outer: () => {
          const { link } = this;
          return link === undefined ? 'none' : `${link.name}, ${link.geometry.sectors} sectors`;
        },
      },
      {
        name: 'ring-ref, event-channel',
        inner: () =>
          this.queues.map((q) => `${q.save().refs.join('+')}, port ${q.port}`).join('; ') || 'not connected',
        outer: () => 'none: the rings end here',
      },
      {
        name: 'requests in flight',
        inner: () => `${this.active.length + (this.barrierWaits === undefined ? 0 : 1)}`,
        outer: () => `${this.active.filter((r) => r.submitted).length} with the link`,
      },
    ];
  }

  get attached(): DiskLink | undefined {
    return this.link;
  }
  /** What the guest was told of the disk, or will be told. */
  get disk(): DiskIdentity | undefined {
    return this.identity;
  }

  // --- handshake ---

  connectsAt(state: number): boolean {
    return state === XenbusStateInitialised || state === XenbusStateConnected;
  }
  offers(): Nodes {
    return offeredNodes();
  }

  connect(front: FrontEnd): Nodes {
    if (this.identity === undefined) throw new Error('a disk was plugged in without a link');
    const agreed = readAgreement(front);
    const queues: Queue[] = [];
    try {
      for (const { refs, port } of agreed.queues)
        queues.push(Queue.connect(this.access, refs, port, this.serve));
    } catch (error) {
      for (const queue of queues) queue.disconnect();
      throw error;
    }
    this.queues = queues;
    this.owed = true;
    this.setPersistent(agreed.persistent);
    return connectNodes(this.identity);
  }

  private setPersistent(persistent: boolean): void {
    this.persistent = persistent;
    this.pages.limit = persistent ? MAX_PERSISTENT_GRANTS_PER_QUEUE * this.queues.length : 0;
  }

  start(): void {
    this.running = true;
    const { link } = this;
    if (this.released && link !== undefined) {
      this.retake ??= this.takeBack(link);
      return;
    }
    const again = this.active.filter((request) => !request.submitted).sort((a, b) => a.order - b.order);
    for (const request of again) this.lend(request);
    this.beginBarrier();
    this.link?.commit();
    // If the guest was stopped after it had put a request on the ring and before it signalled it, it will still
    // signal it. Taking that request earlier would show the guest that it was stopped.
    if (this.owed) this.serve();
  }

  async pause(): Promise<void> {
    this.running = false;
    await this.link?.quiesce();
    this.reclaim();
  }

  disconnect(done: () => void): void {
    this.running = false;
    const end = (): void => {
      for (const request of this.active.splice(0)) this.drop(request);
      if (this.barrierWaits !== undefined) this.drop(this.barrierWaits);
      this.barrierWaits = undefined;
      this.barrierRuns = false;
      this.pages.clear();
      for (const queue of this.queues.splice(0)) queue.disconnect();
      done();
    };
    if (this.active.some((request) => request.submitted)) void this.quiet().then(end);
    else end();
  }

  /**
   * Resolves when the link has none of our requests any more, however long that takes. Until then the link may use
   * the guest's memory.
   */
  private async quiet(): Promise<void> {
    for (let attempt = 0; this.active.some((request) => request.submitted); attempt++) {
      const { link } = this;
      if (link === undefined) return;
      try {
        await link.quiesce();
        return;
      } catch (error) {
        if (attempt === 0) this.log(`${(error as Error).message}; the device waits for that to be let go of`);
      }
    }
  }

  /** To be called after a link has quiesced. The requests that it has given up are ours again. */
  private reclaim(): void {
    for (const request of this.active) request.submitted = false;
  }

  // --- requests ---

  /** Takes what is in the rings. */
  readonly serve = (): void => {
    if (!this.running || this.serving) return;
    this.owed = false;
    this.serving = true;
    this.link?.poll();
    this.takeAll();
    this.serving = false;
    for (const queue of this.queues) queue.publish();
    this.link?.commit();
    if (this.queues.some((queue) => queue.broken)) {
      this.running = false;
      this.bus?.fatal('the front end wrote ring indices that cannot be');
    }
  };

  private takeAll(): void {
    // The rings take turns, so that no ring starves another.
    for (let took = true; took; ) {
      took = false;
      for (let i = 0; i < this.queues.length; i++) {
        if (this.barrierWaits !== undefined || this.barrierRuns) return;
        took = this.takeOne(i) || took;
      }
    }
  }

  private takeOne(i: number): boolean {
    const queue = this.queues[i];
    const slot = queue.next();
    if (slot === undefined) return false;
    const request = this.free.pop() ?? new BlockRequest();
    request.queue = i;
    const status = request.take(this.access.mem, slot, this.identity as DiskIdentity, this.pages);
    this.counters.requests++;
    if (status !== BLKIF_RSP_OKAY) {
      this.counters.errors++;
      queue.respond(request.idLow, request.idHigh, request.kind, status);
      this.free.push(request);
    } else if (request.isBarrier) {
      this.barrierWaits = request;
      this.beginBarrier();
    } else {
      this.enlist(request);
      this.lend(request);
    }
    return true;
  }

  private enlist(request: BlockRequest): void {
    request.index = this.active.length;
    request.order = this.order++;
    request.submitted = false;
    this.active.push(request);
  }

  private beginBarrier(): void {
    const request = this.barrierWaits;
    if (request === undefined || this.active.length > 0 || !this.running) return;
    this.barrierWaits = undefined;
    this.barrierRuns = true;
    this.enlist(request);
    this.lend(request);
  }

  /** Submits the present step of a request. If there is no link, the request waits for one. */
  private lend(request: BlockRequest): void {
    const { link } = this;
    if (link === undefined || this.released) return;
    request.operation = request.steps[request.step];
    request.submitted = true;
    link.submit(request);
  }

  done(request: BlockRequest, status: DiskStatus): void {
    request.submitted = false;
    if (this.written !== undefined) this.noteWritten(request);
    // A discard is only advice. A link that cannot discard does nothing, and the guest gets no error.
    const failed = status !== 0 && request.operation !== DISK_DISCARD;
    if (!failed && ++request.step < request.steps.length) {
      if (this.running) this.lend(request);
      return;
    }
    this.finish(request, failed ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
  }

  private noteWritten({ operation, sector, sectors }: BlockRequest): void {
    if (operation !== DISK_READ && operation !== DISK_FLUSH) this.written?.add(sector, sectors);
  }

  private finish(request: BlockRequest, status: number): void {
    const { counters, access } = this;
    if (request.intoMemory) {
      counters.sectorsRead += request.sectors;
      for (let i = 0; i < request.nrExtents; i++) {
        const end = request.address[i] + request.length[i];
        for (let at = request.address[i]; at < end; at += 4096) access.touch(at);
        access.touch(end - 1);
      }
    } else if (request.kind !== BLKIF_OP_DISCARD) counters.sectorsWritten += request.sectors;
    if (status !== BLKIF_RSP_OKAY) counters.errors++;
    request.unmapAll(this.pages);
    const last = this.active.pop() as BlockRequest;
    if (last !== request) {
      this.active[request.index] = last;
      last.index = request.index;
    }
    this.queues[request.queue].respond(request.idLow, request.idHigh, request.kind, status);
    if (request.isBarrier) this.barrierRuns = false;
    this.free.push(request);
  }

  batchDone(): void {
    if (this.serving) return;
    for (const queue of this.queues) queue.publish();
    this.beginBarrier();
    // Requests may have been left in the rings because of a barrier, and further steps of other requests may have
    // been submitted.
    this.serve();
  }

  private drop(request: BlockRequest): void {
    request.unmapAll(this.pages);
    this.free.push(request);
  }

  // --- saved state ---

  save(): Uint8Array {
    const { identity: disk, persistent } = this;
    if (disk === undefined) throw new Error('a disk without a link is saved');
    const requests = [...this.active].sort((a, b) => a.order - b.order);
    if (this.barrierWaits !== undefined) requests.push(this.barrierWaits);
    return encodeRecord(vbdRecord, {
      disk: { ...disk, discard: disk.discard === undefined ? null : { ...disk.discard } },
      persistent,
      kept: [...this.pages.keptRefs()],
      queues: this.queues.map((queue) => {
        const { refs, ...rest } = queue.save();
        return { refs: [...refs], ...rest };
      }),
      requests: requests.map((r) => ({
        queue: r.queue,
        idLow: r.idLow,
        idHigh: r.idHigh,
        kind: r.kind,
        step: r.step,
        sector: r.sector,
        sectors: r.kind === BLKIF_OP_DISCARD ? r.sectors : 0,
        segments: Array.from({ length: r.nrSegments }, (_, i) => ({
          ref: r.ref[i],
          first: r.first[i],
          last: r.last[i],
        })),
      })),
    });
  }

  restore(record: Uint8Array): void {
    const raw = decodeRaw(record);
    const saved = decodeRecord(vbdRecord, raw);
    const refuse = (why: string): never => {
      throw new RecordError(raw.offset, `a disk that cannot be: ${why}`);
    };
    const { discard, ...disk } = saved.disk;
    this.identity = { ...disk, discard: discard ?? undefined };
    if (!this.pages.restore(saved.kept)) refuse('a kept grant is not mapped');
    this.queues = saved.queues.map(
      (q) => Queue.restore(this.access, q, this.serve) ?? refuse(`a ring at port ${q.port} is not there`),
    );
    this.setPersistent(saved.persistent);
    for (const s of saved.requests) {
      const request = new BlockRequest();
      if (s.queue >= this.queues.length) refuse(`a request of ring ${s.queue}`);
      if (!request.restore(s, this.identity, this.access)) refuse(`a request for sector ${s.sector}`);
      if (!request.isBarrier) this.enlist(request);
      else if (this.barrierWaits !== undefined || this.barrierRuns) refuse('two barriers');
      else if (this.active.length > 0) this.barrierWaits = request;
      else {
        this.barrierRuns = true;
        this.enlist(request);
      }
    }
    this.queues.forEach((queue, i) => {
      const count = saved.requests.filter((r) => r.queue === i).length;
      if (queue.unanswered !== count || count > queue.slots)
        refuse(`ring ${i} has ${queue.unanswered} requests without an answer, ${count} are saved`);
    });
  }
}
