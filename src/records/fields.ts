/**
 * Field types of saved records: how one value is written and read. Values are little-endian and there is no padding.
 * A record's layout is a table of fields (see record.ts), from which its documentation is generated.
 */

/** Saved bytes are malformed. `offset` says where, in bytes from the start of the stream or file. */
export class RecordError extends Error {
  constructor(
    readonly offset: number,
    message: string,
  ) {
    super(`byte ${offset}: ${message}`);
    this.name = 'RecordError';
  }
}

/** A buffer that grows as it is written. All numbers are little-endian. */
export class ByteWriter {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  length = 0;

  private room(size: number): number {
    const at = this.length;
    this.length += size;
    if (this.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.length, this.bytes.length * 2));
      grown.set(this.bytes);
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return at;
  }
  u8(v: number): void {
    const at = this.room(1);
    this.view.setUint8(at, v);
  }
  u16(v: number): void {
    const at = this.room(2);
    this.view.setUint16(at, v, true);
  }
  u32(v: number): void {
    const at = this.room(4);
    this.view.setUint32(at, v, true);
  }
  big64(v: bigint): void {
    const at = this.room(8);
    this.view.setBigUint64(at, BigInt.asUintN(64, v), true);
  }
  f64(v: number): void {
    const at = this.room(8);
    this.view.setFloat64(at, v, true);
  }
  raw(v: Uint8Array): void {
    const at = this.room(v.length);
    this.bytes.set(v, at);
  }
  /** Overwrites four bytes that were written before. */
  patchU32(at: number, v: number): void {
    this.view.setUint32(at, v, true);
  }
  /** A view of what was written; valid until the next write. */
  done(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

/** Reads what ByteWriter wrote. `base` is the offset of `bytes[0]` in the whole stream, for messages. */
export class ByteReader {
  private readonly view: DataView;
  at = 0;
  constructor(
    readonly bytes: Uint8Array,
    readonly base = 0,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  fail(message: string): never {
    throw new RecordError(this.base + this.at, message);
  }
  private take(size: number, what: string): number {
    if (size > this.bytes.length - this.at) {
      this.fail(`${what} of ${size} bytes expected, ${this.bytes.length - this.at} bytes left`);
    }
    const at = this.at;
    this.at += size;
    return at;
  }
  u8(): number {
    return this.view.getUint8(this.take(1, 'a number'));
  }
  u16(): number {
    return this.view.getUint16(this.take(2, 'a number'), true);
  }
  u32(): number {
    return this.view.getUint32(this.take(4, 'a number'), true);
  }
  big64(): bigint {
    return this.view.getBigUint64(this.take(8, 'a number'), true);
  }
  f64(): number {
    return this.view.getFloat64(this.take(8, 'a number'), true);
  }
  /** Returns a copy of the next `size` bytes. */
  raw(size: number): Uint8Array {
    const at = this.take(size, 'a block');
    return this.bytes.slice(at, at + size);
  }
}

/** One type of value in a record. `text` names it in the generated documentation. */
export interface Field<T> {
  readonly text: string;
  write(w: ByteWriter, value: T): void;
  read(r: ByteReader): T;
}

const field = <T>(
  text: string,
  write: (w: ByteWriter, v: T) => void,
  read: (r: ByteReader) => T,
): Field<T> => ({
  text,
  write,
  read,
});

export const u8 = field<number>(
  'u8',
  (w, v) => w.u8(v),
  (r) => r.u8(),
);
export const u16 = field<number>(
  'u16',
  (w, v) => w.u16(v),
  (r) => r.u16(),
);
export const u32 = field<number>(
  'u32',
  (w, v) => w.u32(v),
  (r) => r.u32(),
);
/** A flag: one byte, 0 or 1. */
export const bool = field<boolean>(
  'bool',
  (w, v) => w.u8(v ? 1 : 0),
  (r) => {
    const v = r.u8();
    return v === 0 || v === 1 ? v === 1 : r.fail(`a flag must be 0 or 1, found ${v}`);
  },
);
/** Any 64 bits, as an unsigned bigint. */
export const big64 = field<bigint>(
  'u64',
  (w, v) => w.big64(v),
  (r) => r.big64(),
);
/** A signed 64-bit number that a double holds exactly (|v| <= 2^53): counts, sizes, canonical addresses. */
export const int = field<number>(
  's64, at most 53 bits',
  (w, v) => {
    if (!Number.isSafeInteger(v)) throw new RangeError(`not a whole number of at most 53 bits: ${v}`);
    w.big64(BigInt(v));
  },
  (r) => {
    const v = Number(BigInt.asIntN(64, r.big64()));
    return Number.isSafeInteger(v) ? v : r.fail(`a number of at most 53 bits expected, found ${v}`);
  },
);
/** The first time that no record holds, ns: 146 years. */
export const END_OF_TIME_NS = 2 ** 62;
/**
 * A time in ns. It exceeds 2^53 after 104 days, and is then a multiple of 2, 4 and so on: what a double holds. A value
 * between two of those is rounded as it is read.
 */
export const ns = field<number>(
  's64, ns below 2^62',
  (w, v) => {
    if (!(Number.isInteger(v) && Math.abs(v) < END_OF_TIME_NS))
      throw new RangeError(`not a whole number of nanoseconds below 2^62: ${v}`);
    w.big64(BigInt(v));
  },
  (r) => {
    const v = Number(BigInt.asIntN(64, r.big64()));
    return Math.abs(v) < END_OF_TIME_NS ? v : r.fail(`a time below 2^62 ns expected, found ${v}`);
  },
);
export const f64 = field<number>(
  'f64',
  (w, v) => w.f64(v),
  (r) => r.f64(),
);
/** A length (u32), followed by that many bytes. */
export const bytes = field<Uint8Array>(
  'bytes',
  (w, v) => {
    w.u32(v.length);
    w.raw(v);
  },
  (r) => r.raw(r.u32()),
);
/** UTF-8 text, stored as bytes. */
export const text = field<string>(
  'text',
  (w, v) => bytes.write(w, new TextEncoder().encode(v)),
  (r) => new TextDecoder().decode(bytes.read(r)),
);
/** A block whose size both sides know. */
export const block = (size: number): Field<Uint8Array> =>
  field(
    `${size} bytes`,
    (w, v) => {
      if (v.length !== size) throw new RangeError(`a block of ${size} bytes expected, got ${v.length}`);
      w.raw(v);
    },
    (r) => r.raw(size),
  );

/** A count (u32), followed by that many values. */
export const list = <T>(item: Field<T>): Field<T[]> =>
  field(
    `list of ${item.text}`,
    (w, v) => {
      w.u32(v.length);
      for (const one of v) item.write(w, one);
    },
    (r) => {
      const count = r.u32();
      const all: T[] = [];
      for (let i = 0; i < count; i++) all.push(item.read(r));
      return all;
    },
  );

/** A flag, followed by the value if the flag is 1. Otherwise the value is `null`. */
export const optional = <T>(item: Field<T>): Field<T | null> =>
  field(
    `optional ${item.text}`,
    (w, v) => {
      w.u8(v === null ? 0 : 1);
      if (v !== null) item.write(w, v);
    },
    (r) => (bool.read(r) ? item.read(r) : null),
  );

// biome-ignore lint/suspicious/noExplicitAny: a table of fields of any types; the values' types follow from it
export type Table = Record<string, readonly [Field<any>, string]>;
export type ValueOf<T extends Table> = {
  -readonly [K in keyof T]: T[K][0] extends Field<infer V> ? V : never;
};

/** Several named values, one after the other. Each entry is [type, meaning]. */
export const struct = <T extends Table>(table: T): Field<ValueOf<T>> & { readonly table: T } => {
  const entries = Object.entries(table);
  return {
    table,
    text: `{ ${entries.map(([name, [type]]) => `${name}: ${type.text}`).join(', ')} }`,
    write: (w, value) => {
      for (const [name, [type]] of entries) type.write(w, value[name as keyof T]);
    },
    read: (r) => {
      const value: Record<string, unknown> = {};
      for (const [name, [type]] of entries) value[name] = type.read(r);
      return value as ValueOf<T>;
    },
  };
};
