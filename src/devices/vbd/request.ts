/**
 * One request of a front end. It is read from its slot field by field, each field once; it is checked, and its pages
 * are mapped. This object holds all that is needed to do the request again on another host. Source:
 * xen/include/public/io/blkif.h; Linux, drivers/block/xen-blkback/blkback.c (dispatch_rw_block_io,
 * xen_blkbk_parse_indirect, dispatch_discard_io).
 */
import {
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP_DISCARD,
  BLKIF_OP_FLUSH_DISKCACHE,
  BLKIF_OP_INDIRECT,
  BLKIF_OP_READ,
  BLKIF_OP_WRITE,
  BLKIF_OP_WRITE_BARRIER,
  BLKIF_RSP_EOPNOTSUPP,
  BLKIF_RSP_ERROR,
  BLKIF_RSP_OKAY,
  BLKIF_SECTOR_SIZE,
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE,
  BlkifRequest,
  BlkifRequestDiscard,
  BlkifRequestIndirect,
  BlkifRequestSegment,
} from '../../xen/blkif.js';
import type { LinearMemory } from '../../xen/memory.js';
import type { GuestAccess } from '../guest-access.js';
import { DISK_DISCARD, DISK_FLUSH, DISK_READ, DISK_WRITE, DiskTransfer } from './disk-link.js';
import { type DiskIdentity, MAX_INDIRECT_SEGMENTS } from './features.js';
import type { GrantedPages } from './grants.js';
import type { SlotReader } from './slots.js';
import type { vbdRecord } from './vbd-record.js';

const SECTORS_PER_PAGE = 4096 / BLKIF_SECTOR_SIZE;

/** The link's operations that a request needs, one after the other. */
const STEPS_READ = [DISK_READ] as const;
const STEPS_WRITE = [DISK_WRITE] as const;
const STEPS_FLUSH = [DISK_FLUSH] as const;
const STEPS_FLUSH_WRITE = [DISK_FLUSH, DISK_WRITE] as const;
const STEPS_BARRIER = [DISK_FLUSH, DISK_WRITE, DISK_FLUSH] as const;
const STEPS_DISCARD = [DISK_DISCARD] as const;

/** All operations except discard. These may have segments. */
const KINDS: ReadonlySet<number> = new Set([
  BLKIF_OP_READ,
  BLKIF_OP_WRITE,
  BLKIF_OP_WRITE_BARRIER,
  BLKIF_OP_FLUSH_DISKCACHE,
]);

type SavedRequest = ReturnType<typeof vbdRecord.body.read>['requests'][number];

export class BlockRequest extends DiskTransfer {
  queue = 0;
  /** The lower and the upper half of `id`. */
  idLow = 0;
  idHigh = 0;
  /** The operation (BLKIF_OP_READ, _WRITE...), which the response names too. It is never BLKIF_OP_INDIRECT. */
  kind = 0;
  /** Index of the present step in `steps`. */
  step = 0;
  steps: readonly (0 | 1 | 2 | 3)[] = STEPS_READ;
  nrSegments = 0;
  readonly ref = new Uint32Array(MAX_INDIRECT_SEGMENTS);
  readonly first = new Uint8Array(MAX_INDIRECT_SEGMENTS);
  readonly last = new Uint8Array(MAX_INDIRECT_SEGMENTS);
  /** Index in the device's list of active requests, and the order in which the request was consumed. */
  index = -1;
  order = 0;
  /** True while the request is lent to a link. */
  submitted = false;

  constructor() {
    super(MAX_INDIRECT_SEGMENTS);
  }

  /** True if the back end writes into the request's pages. */
  get intoMemory(): boolean {
    return this.kind === BLKIF_OP_READ;
  }
  /**
   * True if no earlier request may be in progress when this one begins, and no later request may begin before it is
   * done.
   */
  get isBarrier(): boolean {
    return this.kind === BLKIF_OP_WRITE_BARRIER;
  }

  /**
   * Reads and checks the request in a slot and maps its pages. Returns BLKIF_RSP_OKAY, or the status to answer with.
   */
  take(mem: LinearMemory, slot: SlotReader, disk: DiskIdentity, pages: GrantedPages): number {
    this.nrSegments = 0;
    this.nrExtents = 0;
    this.step = 0;
    this.kind = mem.getU8(slot.at(BlkifRequest.operation));
    // The id is at the same offset in all three forms of a request.
    this.idLow = mem.getU32(slot.at(BlkifRequest.id));
    this.idHigh = mem.getU32(slot.at(BlkifRequest.id + 4));
    switch (this.kind) {
      case BLKIF_OP_READ:
      case BLKIF_OP_WRITE:
      case BLKIF_OP_WRITE_BARRIER:
      case BLKIF_OP_FLUSH_DISKCACHE:
        return this.takeDirect(mem, slot, disk, pages);
      case BLKIF_OP_INDIRECT:
        return this.takeIndirect(mem, slot, disk, pages);
      case BLKIF_OP_DISCARD:
        return this.takeDiscard(mem, slot, disk);
      default:
        return BLKIF_RSP_EOPNOTSUPP;
    }
  }

  private takeDirect(mem: LinearMemory, slot: SlotReader, disk: DiskIdentity, pages: GrantedPages): number {
    const count = mem.getU8(slot.at(BlkifRequest.nr_segments));
    this.sector = mem.getU64(slot.at(BlkifRequest.sector_number));
    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) return BLKIF_RSP_ERROR;
    for (let i = 0; i < count; i++) {
      const at = slot.at(BlkifRequest.seg + i * BlkifRequestSegment.sizeof);
      this.readSegment(mem, at);
    }
    return this.check(disk) && this.mapAll(pages) ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
  }

  private takeIndirect(mem: LinearMemory, slot: SlotReader, disk: DiskIdentity, pages: GrantedPages): number {
    this.kind = mem.getU8(slot.at(BlkifRequestIndirect.indirect_op));
    const count = mem.getU16(slot.at(BlkifRequestIndirect.nr_segments));
    this.sector = mem.getU64(slot.at(BlkifRequestIndirect.sector_number));
    if (this.kind !== BLKIF_OP_READ && this.kind !== BLKIF_OP_WRITE) return BLKIF_RSP_ERROR;
    if (count === 0 || count > MAX_INDIRECT_SEGMENTS) return BLKIF_RSP_ERROR;
    for (let done = 0, page = 0; done < count; page++) {
      const ref = mem.getU32(slot.at(BlkifRequestIndirect.indirect_grefs + 4 * page));
      const address = pages.map(ref, false);
      if (address < 0) return BLKIF_RSP_ERROR;
      const end = Math.min(count, done + BLKIF_SEGMENTS_PER_INDIRECT_PAGE);
      for (let i = 0; done < end; done++, i++)
        this.readSegment(mem, address + i * BlkifRequestSegment.sizeof);
      pages.unmap(ref, false);
    }
    return this.check(disk) && this.mapAll(pages) ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
  }

  private takeDiscard(mem: LinearMemory, slot: SlotReader, disk: DiskIdentity): number {
    const secure = mem.getU8(slot.at(BlkifRequestDiscard.flag)) !== 0;
    this.sector = mem.getU64(slot.at(BlkifRequestDiscard.sector_number));
    this.sectors = mem.getU64(slot.at(BlkifRequestDiscard.nr_sectors));
    this.steps = STEPS_DISCARD;
    if (secure || disk.discard === undefined) return BLKIF_RSP_EOPNOTSUPP;
    return disk.readOnly || this.sector + this.sectors > disk.sectors ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY;
  }

  private readSegment(mem: LinearMemory, at: number): void {
    const i = this.nrSegments++;
    this.ref[i] = mem.getU32(at + BlkifRequestSegment.gref);
    this.first[i] = mem.getU8(at + BlkifRequestSegment.first_sect);
    this.last[i] = mem.getU8(at + BlkifRequestSegment.last_sect);
  }

  /** Checks that segments and sectors are possible for the disk, and sets `sectors` and `steps`. */
  check(disk: DiskIdentity): boolean {
    const { kind, nrSegments, first, last } = this;
    let sectors = 0;
    const grain = disk.sectorBytes / BLKIF_SECTOR_SIZE - 1;
    for (let i = 0; i < nrSegments; i++) {
      if (last[i] >= SECTORS_PER_PAGE || first[i] > last[i]) return false;
      const length = last[i] - first[i] + 1;
      if (length & grain) return false;
      sectors += length;
    }
    this.sectors = sectors;
    if (kind === BLKIF_OP_READ || kind === BLKIF_OP_WRITE) {
      if (sectors === 0) return false;
      this.steps = kind === BLKIF_OP_READ ? STEPS_READ : STEPS_WRITE;
    } else if (sectors === 0) this.steps = STEPS_FLUSH;
    else this.steps = kind === BLKIF_OP_WRITE_BARRIER ? STEPS_BARRIER : STEPS_FLUSH_WRITE;
    if (sectors === 0) {
      // Linux's front end sends a flush with sector -1.
      this.sector = 0;
      return true;
    }
    if (this.sector + sectors > disk.sectors || this.sector % (grain + 1) !== 0) return false;
    return kind === BLKIF_OP_READ || !disk.readOnly;
  }

  private mapAll(pages: GrantedPages): boolean {
    const { nrSegments, ref, first, last, intoMemory } = this;
    for (let i = 0; i < nrSegments; i++) {
      const address = pages.map(ref[i], intoMemory);
      if (address < 0) {
        for (let j = 0; j < i; j++) pages.unmap(ref[j], intoMemory);
        return false;
      }
      this.addExtent(address + first[i] * BLKIF_SECTOR_SIZE, (last[i] - first[i] + 1) * BLKIF_SECTOR_SIZE);
    }
    return true;
  }

  /** Restores a saved request, whose pages are already mapped. Returns false if the saved request is impossible. */
  restore(saved: SavedRequest, disk: DiskIdentity, access: GuestAccess): boolean {
    const { segments } = saved;
    if (segments.length > MAX_INDIRECT_SEGMENTS) return false;
    this.queue = saved.queue;
    this.idLow = saved.idLow;
    this.idHigh = saved.idHigh;
    this.kind = saved.kind;
    this.step = saved.step;
    this.sector = saved.sector;
    segments.forEach(({ ref, first, last }, i) => {
      this.ref[i] = ref;
      this.first[i] = first;
      this.last[i] = last;
    });
    this.nrSegments = segments.length;
    if (this.kind === BLKIF_OP_DISCARD) {
      this.sectors = saved.sectors;
      this.steps = STEPS_DISCARD;
      if (this.nrSegments > 0 || this.sector + this.sectors > disk.sectors || disk.readOnly) return false;
    } else if (!KINDS.has(this.kind) || !this.check(disk)) return false;
    for (const { ref, first, last } of segments) {
      const address = access.grantMapped(ref);
      if (address < 0) return false;
      this.addExtent(address + first * BLKIF_SECTOR_SIZE, (last - first + 1) * BLKIF_SECTOR_SIZE);
    }
    return this.sector >= 0 && this.step < this.steps.length;
  }

  unmapAll(pages: GrantedPages): void {
    for (let i = 0; i < this.nrSegments; i++) pages.unmap(this.ref[i], this.intoMemory);
  }
}
