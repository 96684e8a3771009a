/**
 * Fast little-endian access to one linear memory by byte address: guest RAM, shared pages, CPU state. Invariant:
 * nothing here allocates, and bigints are used only where 53 bits are not enough.
 */

const TWO32 = 0x1_0000_0000;

export class LinearMemory {
  readonly u8: Uint8Array;
  readonly view: DataView;

  constructor(readonly buffer: ArrayBufferLike) {
    this.u8 = new Uint8Array(buffer);
    this.view = new DataView(buffer);
  }

  getU8(at: number): number {
    return this.u8[at];
  }
  getU16(at: number): number {
    return this.view.getUint16(at, true);
  }
  getU32(at: number): number {
    return this.view.getUint32(at, true);
  }
  getS32(at: number): number {
    return this.view.getInt32(at, true);
  }
  /** An unsigned 64-bit value as a number: exact up to 2^53, rounded above. */
  getU64(at: number): number {
    return this.view.getUint32(at + 4, true) * TWO32 + this.view.getUint32(at, true);
  }
  /** A signed 64-bit value as a number: exact within 2^53 of zero, which includes every canonical address. */
  getS64(at: number): number {
    return this.view.getInt32(at + 4, true) * TWO32 + this.view.getUint32(at, true);
  }
  getBig(at: number): bigint {
    return this.view.getBigUint64(at, true);
  }
  setU8(at: number, v: number): void {
    this.u8[at] = v;
  }
  setU16(at: number, v: number): void {
    this.view.setUint16(at, v, true);
  }
  setU32(at: number, v: number): void {
    this.view.setUint32(at, v, true);
  }
  /** Writes an integer as 64 bits in two's complement: exact within 2^53 of zero. */
  setU64(at: number, v: number): void {
    this.view.setUint32(at, v, true);
    this.view.setUint32(at + 4, Math.floor(v / TWO32), true);
  }
  setBig(at: number, v: bigint): void {
    this.view.setBigUint64(at, v, true);
  }
  /** A view of `length` bytes at `at`; they are not copied. */
  bytes(at: number, length: number): Uint8Array {
    return this.u8.subarray(at, at + length);
  }
}
