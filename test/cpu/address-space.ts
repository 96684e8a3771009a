/**
 * Builds page tables in a machine's frames, for tests that run programs on the bare machine: 4 KiB user pages at chosen
 * virtual addresses. Frames are allocated in order and never freed.
 */
import { PAGE } from '../../src/engine/engine.js';
import type { Machine } from './machine.js';

const PRESENT = 1;
const WRITABLE = 2;
const USER = 4;
/** No-execute is bit 63: bit 31 of the upper half. */
const NO_EXECUTE = 0x8000_0000;

export interface Protection {
  readonly write: boolean;
  readonly execute: boolean;
}

export class AddressSpace {
  readonly root: number;
  #next: number;

  /**
   * Starts with empty tables; or with `same`, over the tables in the memory of another machine that was copied to this
   * one.
   */
  constructor(
    readonly machine: Machine,
    same?: AddressSpace,
  ) {
    this.#next = same === undefined ? 0 : same.#next;
    this.root = same === undefined ? machine.ram.mfnOf(this.takeFrame()) : same.root;
  }

  /** Returns the index (not the MFN) of a new zeroed frame. */
  takeFrame(): number {
    if (this.#next >= this.machine.ram.frames)
      throw new RangeError(`all ${this.machine.ram.frames} frames are taken`);
    const frame = this.#next++;
    this.machine.mem.u8.fill(0, this.linear(frame), this.linear(frame) + PAGE);
    return frame;
  }

  linear(frame: number): number {
    return this.machine.ram.linearOf(frame);
  }

  /** Returns the linear address of the level-1 page-table entry for `va`; with `make`, missing tables are added. */
  entry(va: number, make: boolean): number {
    let table = this.root;
    for (let level = 4; level > 1; level--) {
      const at = this.#slot(table, va, level);
      const low = this.machine.mem.getU32(at);
      if ((low & PRESENT) === 0) {
        if (!make) return -1;
        this.#write(at, this.machine.ram.mfnOf(this.takeFrame()), PRESENT | WRITABLE | USER, 0);
      }
      table = Number(this.machine.mem.getBig(at) >> 12n) & 0xff_ffff;
    }
    return this.#slot(table, va, 1);
  }

  /** Maps the page of `va` to a frame. The caller flushes translations that may be cached. */
  map(va: number, frame: number, p: Protection): void {
    const at = this.entry(va, true);
    this.#write(
      at,
      this.machine.ram.mfnOf(frame),
      PRESENT | USER | (p.write ? WRITABLE : 0),
      p.execute ? 0 : NO_EXECUTE,
    );
  }

  /** Maps a fresh zeroed frame and returns its linear address. */
  mapNew(va: number, p: Protection): number {
    const frame = this.takeFrame();
    this.map(va, frame, p);
    return this.linear(frame);
  }

  unmap(va: number): void {
    const at = this.entry(va, false);
    if (at >= 0) this.machine.mem.setBig(at, 0n);
  }

  /** Sets the rights of a page; `present` false makes it absent and keeps its frame. */
  protect(va: number, p: Protection, present = true): void {
    const at = this.entry(va, false);
    if (at < 0 || this.machine.mem.getBig(at) === 0n) return;
    const low = (this.machine.mem.getU32(at) & ~(PRESENT | WRITABLE)) | (present ? PRESENT : 0);
    this.machine.mem.setU32(at, p.write ? low | WRITABLE : low);
    const high = this.machine.mem.getU32(at + 4) & 0x7fff_ffff;
    this.machine.mem.setU32(at + 4, p.execute ? high : (high | NO_EXECUTE) >>> 0);
  }

  /** Returns the linear address of a mapped byte, whatever the page's rights; -1 if the page has no frame. */
  find(va: number): number {
    const at = this.entry(va, false);
    if (at < 0 || this.machine.mem.getBig(at) === 0n) return -1;
    const frame = this.machine.ram.frameOf(Number((this.machine.mem.getBig(at) >> 12n) & 0xff_ffffn));
    return this.linear(frame) + (va % PAGE);
  }

  #slot(table: number, va: number, level: number): number {
    const index = Math.floor(va / 2 ** (12 + 9 * (level - 1))) % 512;
    return this.machine.ram.address(table) + 8 * index;
  }

  #write(at: number, mfn: number, low: number, high: number): void {
    this.machine.mem.setU32(at, (((mfn << 12) >>> 0) | low) >>> 0);
    this.machine.mem.setU32(at + 4, ((mfn >>> 20) | high) >>> 0);
  }
}
