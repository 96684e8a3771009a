/** Writes the bytes of WebAssembly code. Labels are nesting depths. */
import { VECTOR_PREFIX, W } from './opcodes.js';

/** The nesting depth at which a block was opened. */
export type Label = number;

export class Emitter {
  private bytes = new Uint8Array(16_384);
  length = 0;
  private depth = 0;
  /** Where the last local.set begins and ends. */
  private setAt = 0;
  private setEnd = -1;
  private setLocal = 0;

  reset(): void {
    this.length = 0;
    this.depth = 0;
    this.setEnd = -1;
  }

  /** Discards everything after this length. */
  rewind(length: number): void {
    this.length = length;
    this.setEnd = -1;
  }

  /** The code written so far. The view is valid until the next write. */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  op(byte: number): void {
    if (this.length === this.bytes.length) {
      const larger = new Uint8Array(2 * this.length);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes[this.length++] = byte;
  }

  raw(bytes: Uint8Array): void {
    const end = this.length + bytes.length;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(2 * end);
      larger.set(this.view());
      this.bytes = larger;
    }
    this.bytes.set(bytes, this.length);
    this.length = end;
  }

  /** LEB128, unsigned. */
  u32(value: number): void {
    let v = value >>> 0;
    while (v >= 0x80) {
      this.op((v & 0x7f) | 0x80);
      v >>>= 7;
    }
    this.op(v);
  }

  private s32(value: number): void {
    let v = value | 0;
    while (v < -64 || v > 63) {
      this.op((v & 0x7f) | 0x80);
      v >>= 7;
    }
    this.op(v & 0x7f);
  }

  private s64(value: bigint): void {
    let v = BigInt.asIntN(64, value);
    while (v < -64n || v > 63n) {
      this.op(Number(v & 0x7fn) | 0x80);
      v >>= 7n;
    }
    this.op(Number(v & 0x7fn));
  }

  i32(value: number): void {
    this.op(W.i32_const);
    this.s32(value);
  }

  /** A number must be exact as a signed 32-bit value, or a small constant. */
  i64(value: number | bigint): void {
    this.op(W.i64_const);
    if (typeof value === 'number' && (value | 0) === value) this.s32(value);
    else this.s64(BigInt(value));
  }

  f64(value: number): void {
    this.op(W.f64_const);
    const bytes = new DataView(new ArrayBuffer(8));
    bytes.setFloat64(0, value, true);
    for (let i = 0; i < 8; i++) this.op(bytes.getUint8(i));
  }

  get(local: number): void {
    if (this.setEnd === this.length && this.setLocal === local) {
      this.bytes[this.setAt] = W.local_tee;
      this.setEnd = -1;
      return;
    }
    this.op(W.local_get);
    this.u32(local);
  }
  set(local: number): void {
    this.setAt = this.length;
    this.op(W.local_set);
    this.u32(local);
    this.setEnd = this.length;
    this.setLocal = local;
  }
  tee(local: number): void {
    this.op(W.local_tee);
    this.u32(local);
  }

  /** Writes a load or store. The address, and for a store the value, are on the stack. */
  memory(code: number, offset: number): void {
    this.op(code);
    this.op(0);
    this.u32(offset);
  }

  vector(code: number): void {
    this.op(VECTOR_PREFIX);
    this.u32(code);
  }
  vectorMemory(code: number, offset: number): void {
    this.vector(code);
    this.op(0);
    this.u32(offset);
  }

  open(code: typeof W.block | typeof W.loop | typeof W.if, type: number): Label {
    this.op(code);
    this.op(type);
    return ++this.depth;
  }
  else(): void {
    this.op(W.else);
  }
  end(): void {
    this.op(W.end);
    this.depth--;
  }
  br(label: Label): void {
    this.op(W.br);
    this.u32(this.depth - label);
  }
  brIf(label: Label): void {
    this.op(W.br_if);
    this.u32(this.depth - label);
  }
  call(index: number): void {
    this.op(W.call);
    this.u32(index);
  }
}
