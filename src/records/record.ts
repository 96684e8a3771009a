/**
 * The record: the one format in which every stateful part saves itself, in files and in the migration stream.
 * Invariant: the contents of a record are only interpreted if its checksum, version and length are right.
 *
 *     0      4 bytes   tag, ASCII ("VCPU")
 *     4      u16       version of this record's layout
 *     6      u16       reserved, 0
 *     8      u32       length of the body in bytes
 *     12     u32       CRC-32C of bytes 0-11 and the body
 *     16     body, then zero bytes up to a multiple of 8
 */
import { crc32c } from './crc32c.js';
import {
  ByteReader,
  ByteWriter,
  type Field,
  RecordError,
  struct,
  type Table,
  type ValueOf,
} from './fields.js';

export const RECORD_HEADER_BYTES = 16;

/** The declared layout of a record. `V` is the type of its value. */
export interface RecordType<V> {
  readonly tag: string;
  readonly version: number;
  readonly doc: string;
  readonly table: Table;
  readonly body: Field<V>;
  /** The layouts of earlier versions, each with a function that converts its value to the present version. */
  readonly earlier: readonly Earlier<V>[];
}

interface Earlier<V> {
  readonly version: number;
  readonly body: Field<unknown>;
  upgrade(old: never): V;
}

/**
 * Declares a record: a tag of four ASCII characters, a version from 1 on, a description, and the table of its fields.
 */
export function recordType<T extends Table>(
  tag: string,
  version: number,
  doc: string,
  table: T,
  earlier: readonly Earlier<ValueOf<T>>[] = [],
): RecordType<ValueOf<T>> {
  if (!/^[A-Z0-9 ]{4}$/.test(tag))
    throw new RangeError(`a record's tag is four capital letters or digits: ${tag}`);
  return { tag, version, doc, table, body: struct(table), earlier };
}

/** A record whose header is checked and whose body is not interpreted yet. */
export interface RawRecord {
  readonly tag: string;
  readonly version: number;
  readonly body: Uint8Array;
  /** Offset of the record's first byte in the whole stream. */
  readonly offset: number;
}

const padded = (length: number): number => Math.ceil(length / 8) * 8;

/** Encodes a record with a given body. */
export function encodeRaw(tag: string, version: number, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(RECORD_HEADER_BYTES + padded(body.length));
  const view = new DataView(out.buffer);
  for (let i = 0; i < 4; i++) out[i] = tag.charCodeAt(i);
  view.setUint16(4, version, true);
  view.setUint32(8, body.length, true);
  out.set(body, RECORD_HEADER_BYTES);
  view.setUint32(12, crc32c(body, 0, body.length, crc32c(out, 0, 12)), true);
  return out;
}

/** Encodes `value` as a record of `type`. */
export function encodeRecord<V>(type: RecordType<V>, value: V): Uint8Array {
  const w = new ByteWriter();
  type.body.write(w, value);
  return encodeRaw(type.tag, type.version, w.done());
}

/** The size of the whole record whose 16 header bytes are at `bytes[at]`, including padding. */
export function recordSize(bytes: Uint8Array, at = 0): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return RECORD_HEADER_BYTES + padded(view.getUint32(at + 8, true));
}

/** Reads the record at `bytes[at]`. `base` is the offset of `bytes[0]` in the stream. Throws RecordError. */
export function decodeRaw(bytes: Uint8Array, at = 0, base = 0): RawRecord {
  const offset = base + at;
  if (bytes.length - at < RECORD_HEADER_BYTES) {
    throw new RecordError(offset, `a record header of 16 bytes expected, ${bytes.length - at} bytes left`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getUint32(at + 8, true);
  const tag = String.fromCharCode(...bytes.subarray(at, at + 4));
  if (!/^[A-Z0-9 ]{4}$/.test(tag)) throw new RecordError(offset, 'no record starts here');
  if (bytes.length - at - RECORD_HEADER_BYTES < padded(length)) {
    throw new RecordError(offset, `record ${tag} has ${length} bytes, the data ends before`);
  }
  const body = bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
  const sum = crc32c(body, 0, length, crc32c(bytes, at, at + 12));
  if (sum !== view.getUint32(at + 12, true))
    throw new RecordError(offset, `record ${tag} is damaged: wrong checksum`);
  return { tag, version: view.getUint16(at + 4, true), body, offset };
}

/** Reads all records of `bytes`, in order. */
export function decodeAll(bytes: Uint8Array, base = 0): RawRecord[] {
  const all: RawRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    const one = decodeRaw(bytes, at, base);
    all.push(one);
    at += RECORD_HEADER_BYTES + padded(one.body.length);
  }
  return all;
}

/** Interprets a raw record as `type`, even if an earlier version wrote it. Throws RecordError. */
export function decodeRecord<V>(type: RecordType<V>, raw: RawRecord): V {
  if (raw.tag !== type.tag) {
    throw new RecordError(raw.offset, `record ${type.tag} (${type.doc}) expected, found ${raw.tag}`);
  }
  const earlier = type.earlier.find((e) => e.version === raw.version);
  if (raw.version !== type.version && earlier === undefined) {
    throw new RecordError(
      raw.offset,
      `record ${raw.tag} has version ${raw.version}; known is up to ${type.version}`,
    );
  }
  const r = new ByteReader(raw.body, raw.offset + RECORD_HEADER_BYTES);
  const value = earlier === undefined ? type.body.read(r) : earlier.upgrade(earlier.body.read(r) as never);
  if (r.at !== raw.body.length) r.fail(`record ${raw.tag} has ${raw.body.length - r.at} bytes too many`);
  return value;
}

/** Joins byte arrays into one. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
