/**
 * The memory of a process: pages mapped at once into an address space, a list of the mapped ranges, and copies in and
 * out that ignore page rights, as a kernel makes them.
 */
import { PAGE } from '../../../src/engine/engine.js';
import type { AddressSpace, Protection } from '../address-space.js';

const MMAP_TOP = 0x7f00_0000_0000;

export class ProcessMemory {
  /** The stack grows downwards, as in Linux. */
  #mmapEnd = MMAP_TOP;
  brkStart = 0;
  brkEnd = 0;

  constructor(public space: AddressSpace) {}

  /** Maps new zeroed pages; pages that are mapped already keep their frames and are zeroed. */
  mapZeroed(address: number, bytes: number, p: Protection): void {
    for (let va = address; va < address + bytes; va += PAGE) {
      const linear = this.space.find(va);
      if (linear < 0) this.space.mapNew(va, p);
      else {
        this.space.machine.mem.u8.fill(0, linear, linear + PAGE);
        this.space.machine.touch(linear);
        this.space.protect(va, p);
      }
    }
    this.space.machine.tables.forget();
  }

  unmap(address: number, bytes: number): void {
    for (let va = address; va < address + bytes; va += PAGE) this.space.unmap(va);
    this.space.machine.tables.forget();
  }

  protect(address: number, bytes: number, p: Protection, present: boolean): void {
    for (let va = address; va < address + bytes; va += PAGE) this.space.protect(va, p, present);
    this.space.machine.tables.forget();
  }

  /** Returns a free range below all others. */
  reserve(bytes: number): number {
    this.#mmapEnd -= Math.ceil(bytes / PAGE) * PAGE;
    return this.#mmapEnd;
  }

  /** Does the brk system call: sets a new end if it is valid, and returns the current end. */
  brk(wanted: number): number {
    if (wanted >= this.brkStart) {
      const from = Math.ceil(this.brkEnd / PAGE) * PAGE;
      const to = Math.ceil(wanted / PAGE) * PAGE;
      if (to > from) this.mapZeroed(from, to - from, { write: true, execute: false });
      this.brkEnd = wanted;
    }
    return this.brkEnd;
  }

  write(address: number, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; ) {
      const length = Math.min(bytes.length - i, PAGE - ((address + i) % PAGE));
      const to = this.#at(address + i);
      this.space.machine.touch(to);
      this.space.machine.mem.u8.set(bytes.subarray(i, i + length), to);
      i += length;
    }
  }

  read(address: number, bytes: number): Uint8Array {
    const out = new Uint8Array(bytes);
    for (let i = 0; i < bytes; ) {
      const length = Math.min(bytes - i, PAGE - ((address + i) % PAGE));
      const from = this.#at(address + i);
      out.set(this.space.machine.mem.u8.subarray(from, from + length), i);
      i += length;
    }
    return out;
  }

  string(address: number): string {
    const out: number[] = [];
    for (let at = address; ; at++) {
      const byte = this.space.machine.mem.u8[this.#at(at)];
      if (byte === 0) return new TextDecoder().decode(Uint8Array.from(out));
      out.push(byte);
    }
  }

  setQuad(address: number, value: number | bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true);
    this.write(address, bytes);
  }

  quad(address: number): number {
    const bytes = this.read(address, 8);
    return Number(new DataView(bytes.buffer).getBigInt64(0, true));
  }

  #at(address: number): number {
    const linear = this.space.find(address);
    if (linear < 0)
      throw new RangeError(`the program passed address ${address.toString(16)}, which is not mapped`);
    return linear;
  }
}
