/**
 * The hot path of the stream: a batch of pages as one PAGE record, which is written into and read from a buffer
 * without copies.
 *
 * Invariant: the bytes are the same as those of encodeRecord(pagesRecord, ...), which a test verifies. A page is
 * copied first, and the checksum is computed on the copy, because the guest may write to the page meanwhile: such a
 * torn page has a valid checksum, is in the dirty log, and will be sent again.
 */
import { crc32c } from '../records/crc32c.js';
import { RecordError } from '../records/fields.js';
import { type RawRecord, RECORD_HEADER_BYTES } from '../records/record.js';
import { MAX_BATCH_PAGES, PAGE_BYTES, pagesRecord } from './stream-records.js';

/** The size of a buffer for a batch of `pages` pages in bytes, including padding on both sides. */
export const batchBytes = (pages: number): number => RECORD_HEADER_BYTES + 12 + pages * (4 + PAGE_BYTES) + 16;

/**
 * Where a record of `pages` pages should begin in a buffer, modulo 8, so that its pages are aligned to 8 bytes. V8
 * copies from and to shared memory (such as a guest's RAM) by words if both sides are aligned alike; otherwise it
 * copies single bytes, which takes four times as long.
 */
export const alignedStart = (pages: number): number => -(RECORD_HEADER_BYTES + 12 + pages * 4) & 7;

/** Writes `count` pages of `ram` as a record into `whole`. Returns the record's bytes, which are a part of `whole`. */
export function encodeBatch(
  whole: Uint8Array,
  sequence: number,
  frames: Uint32Array,
  count: number,
  ram: Uint8Array,
): Uint8Array {
  const buffer = whole.subarray(alignedStart(count));
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  const length = 12 + count * 4 + count * PAGE_BYTES;
  for (let i = 0; i < 4; i++) buffer[i] = pagesRecord.tag.charCodeAt(i);
  view.setUint16(4, pagesRecord.version, true);
  view.setUint16(6, 0, true);
  view.setUint32(8, length, true);
  let at = RECORD_HEADER_BYTES;
  view.setUint32(at, sequence, true);
  view.setUint32(at + 4, count, true);
  at += 8;
  for (let i = 0; i < count; i++, at += 4) view.setUint32(at, frames[i], true);
  view.setUint32(at, count * PAGE_BYTES, true);
  at += 4;
  for (let i = 0; i < count; i++, at += PAGE_BYTES) {
    buffer.set(ram.subarray(frames[i] * PAGE_BYTES, (frames[i] + 1) * PAGE_BYTES), at);
  }
  const end = Math.ceil(at / 8) * 8;
  buffer.fill(0, at, end);
  view.setUint32(12, crc32c(buffer, RECORD_HEADER_BYTES, at, crc32c(buffer, 0, 12)), true);
  return buffer.subarray(0, end);
}

/** The contents of a checked PAGE record. `data` is a view, not a copy. */
interface Batch {
  readonly sequence: number;
  readonly count: number;
  frame(index: number): number;
  readonly data: Uint8Array;
}

/** Interprets a PAGE record whose checksum is right. Throws RecordError. */
export function decodeBatch(raw: RawRecord): Batch {
  const { body, offset } = raw;
  const wrong = (at: number, what: string): never => {
    throw new RecordError(offset + RECORD_HEADER_BYTES + at, what);
  };
  if (raw.version !== pagesRecord.version) wrong(-12, `record PAGE has version ${raw.version}, known is 1`);
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  if (body.length < 12) wrong(0, `a batch of pages has at least 12 bytes, found ${body.length}`);
  const count = view.getUint32(4, true);
  if (count > MAX_BATCH_PAGES) wrong(4, `at most ${MAX_BATCH_PAGES} pages a batch, found ${count}`);
  const data = 12 + count * 4;
  if (body.length !== data + count * PAGE_BYTES) {
    wrong(4, `${count} pages take ${data + count * PAGE_BYTES} bytes, the record has ${body.length}`);
  }
  if (view.getUint32(data - 4, true) !== count * PAGE_BYTES)
    wrong(data - 4, `${count * PAGE_BYTES} bytes of data expected`);
  return {
    sequence: view.getUint32(0, true),
    count,
    frame: (index) => view.getUint32(8 + index * 4, true),
    data: body.subarray(data),
  };
}
