/**
 * The framing of Xen's xenstore migration stream: a header, then records, of which the last one is END.
 *
 *     0   8   'xenstore'
 *     8   u32 version, big-endian: 1 or 2
 *     12  u32 flags, big-endian: bit 0 is set if the rest is big-endian; the others are 0
 *     then records, each starting at a multiple of 8, with numbers in the stated byte order:
 *     0   u32 type      4  u32 length of the body     8  body, and zero bytes up to a multiple of 8
 *
 * Invariant: a stream is only interpreted if all its records lie within the bytes and it ends with END. Lengths are
 * written rounded up to a multiple of 8, as xenstored writes them; lengths that are not rounded are accepted too.
 * Source: docs/designs/xenstore-migration.md of Xen.
 */
import { ByteReader, ByteWriter, RecordError } from '../../records/fields.js';

const TYPE_END = 0;
export const TYPE_GLOBAL = 1;
export const TYPE_CONNECTION = 2;
export const TYPE_WATCH = 3;
export const TYPE_TRANSACTION = 4;
export const TYPE_NODE = 5;
export const TYPE_GLOBAL_QUOTA = 6;
export const TYPE_DOMAIN = 7;
export const TYPE_WATCH_EXTENDED = 8;
/**
 * Records of this implementation for what the others cannot hold. Other implementations skip them. Their layouts are
 * in exact.ts.
 */
export const TYPE_EXACT_GENERATIONS = 0x80000001;
export const TYPE_EXACT_CONNECTION = 0x80000002;
export const TYPE_EXACT_DOMAIN = 0x80000003;
export const TYPE_EXACT_TRANSACTION = 0x80000004;
/** Names the journal that continues this snapshot. */
export const TYPE_JOURNAL = 0x80000005;

const IDENT = 'xenstore';
const VERSION = 2;
const OLDEST = 1;
const HEADER_BYTES = 16;

interface StreamRecord {
  readonly type: number;
  readonly body: ByteReader;
}

export class StateWriter {
  private readonly out = new ByteWriter();

  constructor() {
    for (const c of IDENT) this.out.u8(c.charCodeAt(0));
    for (const byte of [0, 0, 0, VERSION, 0, 0, 0, 0]) this.out.u8(byte);
  }

  /** Writes one record. `fill` writes its body. */
  record(type: number, fill: (w: ByteWriter) => void = () => {}): void {
    this.out.u32(type);
    const at = this.out.length;
    this.out.u32(0);
    fill(this.out);
    while (this.out.length % 8 !== 0) this.out.u8(0);
    this.out.patchU32(at, this.out.length - at - 4);
  }

  /** Ends the stream with END and returns all of it. */
  end(): Uint8Array {
    this.record(TYPE_END);
    return this.out.done().slice();
  }
}

/** Returns the records of a stream up to END. Throws RecordError if it is malformed. */
export function readStream(bytes: Uint8Array): StreamRecord[] {
  const fail = (offset: number, message: string): never => {
    throw new RecordError(offset, message);
  };
  if (bytes.length < HEADER_BYTES) fail(0, `a header of 16 bytes expected, ${bytes.length} bytes found`);
  for (let i = 0; i < IDENT.length; i++)
    if (bytes[i] !== IDENT.charCodeAt(i)) fail(i, "'xenstore' expected: this is no xenstore stream");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const version = view.getUint32(8);
  if (version < OLDEST || version > VERSION)
    fail(8, `version ${OLDEST} to ${VERSION} expected, ${version} found`);
  const flags = view.getUint32(12);
  if (flags !== 0) fail(12, `flags 0 (little-endian) expected, ${flags} found`);
  const records: StreamRecord[] = [];
  for (let at = HEADER_BYTES; ; ) {
    if (bytes.length - at < 8) fail(at, 'a record expected, the stream ends');
    const type = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    if (type === TYPE_END) return records;
    if (length > bytes.length - at - 8)
      fail(at + 4, `a body of ${length} bytes announced, ${bytes.length - at - 8} bytes left`);
    records.push({ type, body: new ByteReader(bytes.subarray(at + 8, at + 8 + length), at + 8) });
    at += 8 + Math.ceil(length / 8) * 8;
  }
}
