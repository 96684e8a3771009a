import { describe, expect, it } from 'vitest';
import { decodeRaw, encodeRecord } from '../records/record.js';
import { batchBytes, decodeBatch, encodeBatch } from './page-batch.js';
import { PAGE_BYTES, pagesRecord } from './stream-records.js';

describe('a batch of pages', () => {
  const FRAMES = 40;
  const ram = new Uint8Array(new SharedArrayBuffer(FRAMES * PAGE_BYTES));
  for (let i = 0; i < ram.length; i++) ram[i] = (i * 7 + (i >> 12)) & 255;
  const page = (frame: number): Uint8Array => ram.slice(frame * PAGE_BYTES, (frame + 1) * PAGE_BYTES);

  it.each([0, 1, 2, 31, 32])('of %i has the size that the description of its record gives', (count) => {
    const frames = Uint32Array.from({ length: 32 }, (_, i) => (i * 11) % FRAMES);
    const whole = new Uint8Array(batchBytes(32)).fill(0xee);
    const batch = encodeBatch(whole, 5, frames, count, ram);
    const chosen = [...frames.subarray(0, count)];
    const data = new Uint8Array(count * PAGE_BYTES);
    for (const [i, frame] of chosen.entries()) data.set(page(frame), i * PAGE_BYTES);
    const record = encodeRecord(pagesRecord, { sequence: 5, frames: chosen, data });
    expect(Buffer.compare(batch, record)).toBe(0);

    const read = decodeBatch(decodeRaw(batch));
    expect([read.sequence, read.count]).toEqual([5, count]);
    expect(chosen.map((_, i) => read.frame(i))).toEqual(chosen);
    expect(Buffer.compare(read.data, data)).toBe(0);
    // Shared memory is copied word by word only if both sides are aligned.
    expect(read.data.byteOffset % 8).toBe(0);
  });
});
