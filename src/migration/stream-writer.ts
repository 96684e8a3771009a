/**
 * Writes a migration stream: it numbers the records and passes their bytes to a sink, which can slow it down.
 * Invariant: nothing is written faster than the sink takes it or than the bandwidth limit allows.
 */
import { VERSION } from '../protocol/generated/version.js';
import { encodeRecord } from '../records/record.js';
import { clearBit, hasBit, nextBit, setBit } from './bitmap.js';
import { batchBytes, encodeBatch } from './page-batch.js';
import {
  blocksRecord,
  codeRecord,
  descriptionRecord,
  diskRecord,
  endRecord,
  holeRecord,
  MAX_ZERO_FRAMES,
  PAGE_BYTES,
  PLAIN_VERSION,
  preambleRecord,
  roundRecord,
  stateRecord,
  zeroRecord,
} from './stream-records.js';

/** Takes bytes and resolves when it can take more. It may still read the bytes of the last WRITES_UNDER_WAY calls. */
export type StreamSink = (bytes: Uint8Array) => Promise<void>;

export interface StreamHead {
  readonly frames: number;
  readonly uuid: string;
  readonly name: string;
  /** The version of the stream, if both sides have agreed on one. */
  readonly version?: number;
}

/** The result of one pass over a set of frames. */
export interface RoundResult {
  /** How many pages were examined. */
  readonly pages: number;
  /** Of how many pages the contents were sent. */
  readonly sent: number;
  /** How many pages were all zero. They are not sent, or only named in a few bytes. */
  readonly zero: number;
  readonly bytes: number;
  readonly ms: number;
}

/**
 * The batches are small, so that the socket is checked often and the other side always has work, and numerous enough
 * to keep it full.
 */
const BATCH_PAGES = 32;
export const WRITES_UNDER_WAY = 7;

const PAGE_WORDS = PAGE_BYTES / 4;

/** Whether a page is zero, by its number in `words`. Eight words are tested in each step: 6 GB/s. */
const isZero = (words: Int32Array, page: number): boolean => {
  const first = page * PAGE_WORDS;
  for (let i = first, end = first + PAGE_WORDS; i < end; i += 8) {
    const any =
      words[i] |
      words[i + 1] |
      words[i + 2] |
      words[i + 3] |
      words[i + 4] |
      words[i + 5] |
      words[i + 6] |
      words[i + 7];
    if (any !== 0) return false;
  }
  return true;
};

export class StreamWriter {
  bytes = 0;
  private sequence = 0;
  private pages = 0;
  private readonly buffers = Array.from(
    { length: WRITES_UNDER_WAY + 1 },
    () => new Uint8Array(batchBytes(BATCH_PAGES)),
  );
  private which = 0;
  private nonZero = new Uint8Array(0);
  private paceFrom = 0;
  private paceBytes = 0;

  /** `bytesPerSecond` 0 means no limit. */
  constructor(
    private readonly sink: StreamSink,
    private bytesPerSecond = 0,
  ) {}

  /** Sets or removes the limit. The last pages of a move are sent without one. */
  setBandwidth(bytesPerSecond: number): void {
    this.bytesPerSecond = bytesPerSecond;
    this.paceFrom = 0;
  }

  private async write(bytes: Uint8Array): Promise<void> {
    this.bytes += bytes.length;
    await this.sink(bytes);
    if (this.bytesPerSecond === 0) return;
    const now = performance.now();
    if (this.paceFrom === 0) {
      this.paceFrom = now;
      this.paceBytes = 0;
    }
    this.paceBytes += bytes.length;
    const aheadMs = (this.paceBytes / this.bytesPerSecond) * 1000 - (now - this.paceFrom);
    if (aheadMs > 1) await new Promise((done) => setTimeout(done, aheadMs));
  }

  async begin(head: StreamHead, description: Uint8Array): Promise<void> {
    this.nonZero = new Uint8Array((head.frames + 7) >>> 3);
    await this.write(
      encodeRecord(preambleRecord, {
        version: head.version ?? PLAIN_VERSION,
        pageBytes: PAGE_BYTES,
        frames: head.frames,
        uuid: head.uuid,
        name: head.name,
        writer: `stillpoint ${VERSION}`,
      }),
    );
    await this.write(
      encodeRecord(descriptionRecord, { sequence: ++this.sequence, records: description.slice() }),
    );
  }

  /** A disk that moves with the guest. */
  async disk(devid: number, bytes: number): Promise<void> {
    await this.write(encodeRecord(diskRecord, { sequence: ++this.sequence, devid, bytes }));
  }

  /**
   * Contents of a disk from byte `at` on. Parts that are zero take a few bytes, or are not sent at all if the disk is
   * `fresh`.
   */
  async blocks(devid: number, at: number, data: Uint8Array, fresh: boolean): Promise<void> {
    const whole = Math.floor(data.length / PAGE_BYTES);
    const words = new Int32Array(data.buffer, data.byteOffset, whole * PAGE_WORDS);
    // A disk may end within a page. That last piece is treated as not zero.
    const zeroAt = (page: number): boolean => page < whole && isZero(words, page);
    const pages = Math.ceil(data.length / PAGE_BYTES);
    for (let from = 0, to = 0; from < pages; from = to) {
      const zero = zeroAt(from);
      for (to = from + 1; to < pages && zeroAt(to) === zero; ) to++;
      const start = from * PAGE_BYTES;
      const end = Math.min(to * PAGE_BYTES, data.length);
      if (!zero) await this.part(devid, at + start, data.slice(start, end));
      else if (!fresh) {
        const hole = { sequence: ++this.sequence, devid, at: at + start, bytes: end - start };
        await this.write(encodeRecord(holeRecord, hole));
      }
    }
  }
  private async part(devid: number, at: number, data: Uint8Array): Promise<void> {
    await this.write(encodeRecord(blocksRecord, { sequence: ++this.sequence, devid, at, data }));
  }

  /** Sends those of the `frames` pages that are set in `bitmap`. `round` 0 is the last one. */
  async round(
    round: number,
    bitmap: Uint8Array,
    pages: number,
    frames: number,
    ram: Uint8Array,
    progress?: (sent: number) => void,
  ): Promise<RoundResult> {
    const started = performance.now();
    const before = this.bytes;
    const words = new Int32Array(ram.buffer, ram.byteOffset, ram.length / 4);
    await this.write(encodeRecord(roundRecord, { sequence: ++this.sequence, round, pages }));
    const batch = new Uint32Array(BATCH_PAGES);
    const zeroed: number[] = [];
    let count = 0;
    let looked = 0;
    let sent = 0;
    const flush = async (): Promise<void> => {
      const buffer = this.buffers[this.which];
      this.which = (this.which + 1) % this.buffers.length;
      sent += count;
      this.pages += count;
      const record = encodeBatch(buffer, ++this.sequence, batch, count, ram);
      count = 0;
      await this.write(record);
      progress?.(sent);
    };
    const flushZero = async (): Promise<void> => {
      await this.write(encodeRecord(zeroRecord, { sequence: ++this.sequence, frames: zeroed }));
      zeroed.length = 0;
    };
    for (let frame = nextBit(bitmap, 0, frames); frame >= 0; frame = nextBit(bitmap, frame + 1, frames)) {
      looked++;
      if (isZero(words, frame)) {
        // The destination's RAM is zero at first, so only a page that was sent before must be named.
        if (hasBit(this.nonZero, frame)) {
          clearBit(this.nonZero, frame);
          zeroed.push(frame);
          if (zeroed.length === MAX_ZERO_FRAMES) await flushZero();
        }
        continue;
      }
      setBit(this.nonZero, frame);
      batch[count++] = frame;
      if (count === BATCH_PAGES) await flush();
    }
    if (count > 0) await flush();
    if (zeroed.length > 0) await flushZero();
    const ms = performance.now() - started;
    return { pages: looked, sent, zero: looked - sent, bytes: this.bytes - before, ms };
  }

  /** Sends the places of code that the guest runs often. A stream of version 1 cannot contain them. */
  async code(starts: Uint32Array): Promise<void> {
    await this.write(encodeRecord(codeRecord, { sequence: ++this.sequence, starts: [...starts] }));
  }

  /** Sends the state and ends the stream. */
  async end(state: Uint8Array): Promise<void> {
    await this.write(encodeRecord(stateRecord, { sequence: ++this.sequence, records: state.slice() }));
    await this.write(encodeRecord(endRecord, { sequence: ++this.sequence, pages: this.pages }));
  }
}
