/**
 * Tests saved guests. fixtures/small-guest-1.img.gz was written by `stillpoint save` of the small kernel (memory = 8,
 * one sample every 10 ms) with the first version of the stream; every later version must restore it.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { openFactory } from '../../src/guest-process/pv-runner.js';
import { receiveGuest } from '../../src/migration/destination.js';
import { StreamReader } from '../../src/migration/stream-reader.js';
import { crc32c } from '../../src/records/crc32c.js';
import { RecordError } from '../../src/records/fields.js';
import { RECORD_HEADER_BYTES, recordSize } from '../../src/records/record.js';
import { TestHost } from '../support/guest-on-host.js';

const image = new Uint8Array(
  gunzipSync(readFileSync(new URL('./fixtures/small-guest-1.img.gz', import.meta.url))),
);

/** The offset of each record. */
const starts: number[] = [];
for (let at = 0; at < image.length; at += recordSize(image, at)) starts.push(at);
const recordAt = (position: number): number => starts.findLast((start) => start <= position)!;

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 60_000) yield bytes.subarray(at, at + 60_000);
}

/** A host whose clocks advance. */
class RunningHost extends TestHost {
  override readonly clock = {
    uptime: () => Math.floor(performance.now() * 1e6) as never,
    awake: () => Math.floor(performance.now() * 1e6) as never,
    suspended: () => 0 as never,
    wallClock: () => (Date.now() * 1e6) as never,
    tscKhz: 3_000_000,
  };
}

function restore(bytes: Uint8Array) {
  let output = '';
  const factory = openFactory(new RunningHost('C', 77), {
    console: (shown) => {
      output += Buffer.from(shown).toString('latin1');
    },
    stopped: (reason, details) => {
      output += `stopped: ${reason} ${details}`;
    },
    log: () => {},
  });
  const received = receiveGuest(chunksOf(bytes), factory, { fromFile: true });
  return { received, output: () => output };
}

/** Reads a stream as the destination does, into a container that is only memory. */
async function read(bytes: Uint8Array): Promise<void> {
  let frames = 0;
  const reader = new StreamReader({
    head(head) {
      frames = head.frames;
    },
    container: async () => ({ ram: new Uint8Array(frames * 4096), frames }),
    state: () => {},
  });
  for await (const chunk of chunksOf(bytes)) await reader.push(chunk);
  reader.finish();
}

const refusal = (read: Promise<unknown>): Promise<Error | undefined> =>
  read.then(
    () => undefined,
    (error: Error) => error,
  );
const altered = (position: number, bit = 1): Uint8Array => {
  const bytes = image.slice();
  bytes[position] ^= bit;
  return bytes;
};

/** Each byte of the first records and of each header, and bytes at intervals in the whole file. */
function* positions(): Generator<number> {
  for (let at = 0; at < 400; at++) yield at;
  for (const start of starts) for (let i = 0; i < RECORD_HEADER_BYTES; i++) yield start + i;
  for (let at = 400; at < image.length; at += 1999) yield at;
  for (let at = image.length - 60; at < image.length; at++) yield at;
}

describe('a saved guest', () => {
  it('of the first version is restored and goes on as if it had never been stopped', async () => {
    const { received, output } = restore(image);
    const { guest, head } = await received;
    expect(head.name).toBe('small');
    await guest.attach();
    guest.start();
    try {
      guest.runner.type(new TextEncoder().encode('v\n'));
      for (const end = Date.now() + 30_000; !/OBS VERDICT [^\n]*\n/.test(output()) && Date.now() < end; )
        await new Promise((done) => setTimeout(done, 20));
      const [, back, diff] = /OBS VERDICT .* back=(\d+) diff=(\d+)/.exec(output())?.map(Number) ?? [];
      expect({ back, diff }, output()).toEqual({ back: 0, diff: 0 });
    } finally {
      await guest.runner.movable.detach();
    }
  });

  it('that was altered at any place is refused with that place, and starts nothing', async () => {
    for (const position of positions()) {
      const error = await refusal(read(altered(position)));
      expect(error, `byte ${position}`).toBeInstanceOf(RecordError);
      const { offset } = error as RecordError;
      const record = recordAt(position);
      // An altered length may lead anywhere: the error then names this record, or the end of the file.
      expect(offset, `byte ${position}: ${error?.message}`).toBeGreaterThanOrEqual(record);
      expect(error?.message).toMatch(/^byte \d+: /);
    }
  });

  it('that ends early is refused with the place, wherever it ends', async () => {
    for (const position of positions()) {
      const error = await refusal(read(image.subarray(0, position)));
      expect(error, `${position} bytes`).toBeInstanceOf(RecordError);
      expect((error as RecordError).offset).toBe(position);
    }
  });

  it('with bytes after its end, or a missing or repeated record, is refused', async () => {
    const cut = (from: number, to: number): Uint8Array =>
      new Uint8Array([...image.subarray(0, from), ...image.subarray(to)]);
    const twice = (from: number, to: number): Uint8Array =>
      new Uint8Array([...image.subarray(0, to), ...image.subarray(from)]);
    for (let i = 0; i < starts.length; i++) {
      const [from, to] = [starts[i], starts[i + 1] ?? image.length];
      expect(await refusal(read(cut(from, to))), `record ${i}`).toBeInstanceOf(RecordError);
      expect(await refusal(read(twice(from, to))), `record ${i}`).toBeInstanceOf(RecordError);
    }
  });

  it('with false contents and right checksums is refused or restored, and breaks nothing here', async () => {
    let seed = 20_261_125;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const view = new DataView(image.buffer, image.byteOffset);
    const inside = starts.filter((at) =>
      ['DESC', 'STAT'].includes(String.fromCharCode(...image.subarray(at, at + 4))),
    );
    let refused = 0;
    const RUNS = 60;
    for (let run = 0; run < RUNS; run++) {
      const bytes = image.slice();
      const record = inside[run % inside.length];
      const length = view.getUint32(record + 8, true);
      const body = record + RECORD_HEADER_BYTES;
      for (let i = 0; i < 3; i++) bytes[body + 8 + random(length - 8)] = random(256);
      repair(bytes, record);
      const error = await refusal(restore(bytes).received);
      if (error !== undefined) {
        expect(error, `run ${run}: ${error.stack}`).toBeInstanceOf(RecordError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(RUNS / 3);
  });
});

/** Corrects the checksums of the record at `at` and of those in its body, as far as they can be found. */
function repair(bytes: Uint8Array, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = view.getUint32(at + 8, true);
  const body = at + RECORD_HEADER_BYTES;
  if (length > bytes.length - body) return;
  for (let i = body; i + RECORD_HEADER_BYTES <= body + length; i++) {
    const inner = view.getUint32(i + 8, true);
    const tag = String.fromCharCode(...bytes.subarray(i, i + 4));
    if (/^[A-Z]{4}$/.test(tag) && bytes[i + 5] === 0 && bytes[i + 6] === 0 && inner <= body + length - i)
      repair(bytes, i);
  }
  const sum = crc32c(bytes, body, body + length, crc32c(bytes, at, at + 12));
  view.setUint32(at + 12, sum, true);
}
