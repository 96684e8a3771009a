/** Tests records CODE: what a destination prepares before the guest is there, and what it must not believe. */
import { describe, expect, it } from 'vitest';
import { receiveGuest } from '../../src/migration/destination.js';
import { StreamReader } from '../../src/migration/stream-reader.js';
import { MAX_CODE_STARTS, PAGE_BYTES } from '../../src/migration/stream-records.js';
import { StreamWriter } from '../../src/migration/stream-writer.js';

const FRAMES = 4;

/** Returns the bytes of a stream: a round, whatever `between` writes, another round, and the end. */
async function stream(version: number | undefined, between: (writer: StreamWriter) => Promise<void>) {
  const parts: Uint8Array[] = [];
  const writer = new StreamWriter(async (bytes) => {
    parts.push(bytes.slice());
  });
  const ram = new Uint8Array(new SharedArrayBuffer(FRAMES * PAGE_BYTES)).fill(0x90);
  await writer.begin({ frames: FRAMES, uuid: 'u', name: 'n', version }, new Uint8Array(8));
  await writer.round(1, Uint8Array.of(0b1111), FRAMES, FRAMES, ram);
  await between(writer);
  ram.fill(0, 2 * PAGE_BYTES);
  await writer.round(0, Uint8Array.of(0b0110), 2, FRAMES, ram);
  await writer.end(new Uint8Array(8));
  return Buffer.concat(parts);
}

/** The calls for code that a consumer of the stream received. */
async function told(bytes: Uint8Array) {
  const words: unknown[] = [];
  const reader = new StreamReader({
    head: () => {},
    container: async () => ({ ram: new Uint8Array(FRAMES * PAGE_BYTES), frames: FRAMES }),
    code: (starts) => words.push(starts),
    written: (frame) => words.push(frame),
    state: () => words.push('state'),
  });
  await reader.push(bytes);
  reader.finish();
  return words;
}

const places = (starts: number[]) => (writer: StreamWriter) => writer.code(Uint32Array.from(starts));

describe('code that is prepared', () => {
  it('is announced, and so is each of its frames that is written later', async () => {
    const starts = [5, 2 * PAGE_BYTES + 1, FRAMES * PAGE_BYTES - 1];
    expect(await told(await stream(2, places(starts)))).toEqual([starts, 1, 2, 'state']);
  });

  it('is not in a stream of version 1', async () => {
    expect(await told(await stream(1, async () => {}))).toEqual(['state']);
    await expect(stream(1, places([5])).then(told)).rejects.toThrow(/expected, found CODE/);
  });

  it("must be in the guest's memory, or the stream is refused", async () => {
    await expect(stream(2, places([FRAMES * PAGE_BYTES])).then(told)).rejects.toThrow(
      'frame 4 named; the guest has 4',
    );
  });

  it('is announced for a limited number of places', async () => {
    const many = Array.from({ length: MAX_CODE_STARTS + 1 }, (_, i) => i % 4096);
    await expect(stream(2, places(many)).then(told)).rejects.toThrow('at most 32768 are taken');
  });

  it('is prepared while memory arrives, and no longer once the state is there', async () => {
    const bytes = await stream(2, places([5, 6, 7]));
    const prepared: (number | string)[] = [];
    const slowly = async function* () {
      for (const byte of bytes.subarray(0, bytes.length - 100)) {
        if (prepared.length < 3) await new Promise((done) => setImmediate(done));
        yield Uint8Array.of(byte);
      }
      yield bytes.subarray(bytes.length - 100);
    };
    const guest = {
      frames: FRAMES,
      ram: new Uint8Array(FRAMES * PAGE_BYTES),
      warmUp: { prepareCode: (start: number) => void prepared.push(start) },
      written: (frame: number) => prepared.push(`frame ${frame}`),
      restoreState: () => prepared.push('state'),
      attach: async () => {},
      start: () => {},
      discard: async () => {},
    };
    await receiveGuest(slowly(), { construct: async () => guest });
    expect(prepared).toEqual([5, 6, 7, 'frame 1', 'frame 2', 'state']);
    await new Promise((done) => setImmediate(done));
    expect(prepared.at(-1)).toBe('state');
  });
});
