/**
 * Reads a migration stream from chunks of any size and passes its contents to a consumer, in order.
 *
 * Invariant: an error is refused with its byte offset, and nothing after it is read. Whatever a peer sends, memory
 * use stays bounded by one record, and nothing is changed except the RAM of a container that has never run.
 */
import { RecordError } from '../records/fields.js';
import {
  decodeRaw,
  decodeRecord,
  type RawRecord,
  RECORD_HEADER_BYTES,
  recordSize,
} from '../records/record.js';
import type { DiskTaker } from './disk-sender.js';
import { alignedStart, decodeBatch } from './page-batch.js';
import {
  blocksRecord,
  codeRecord,
  descriptionRecord,
  diskRecord,
  endRecord,
  holeRecord,
  MAX_BLOCKS_BYTES,
  MAX_CODE_STARTS,
  MAX_RECORD_BYTES,
  MAX_ZERO_FRAMES,
  PAGE_BYTES,
  PLAIN_VERSION,
  preambleRecord,
  roundRecord,
  STREAM_VERSIONS,
  stateRecord,
  zeroRecord,
} from './stream-records.js';
import type { StreamHead } from './stream-writer.js';

/** Receives the contents of the stream. `container` provides the RAM into which pages are written. */
interface StreamConsumer {
  head(head: StreamHead): void;
  /** Makes the container. Its RAM is all zero, and it must have `frames` frames as the head said. */
  container(description: Uint8Array): Promise<{ readonly ram: Uint8Array; readonly frames: number }>;
  round?(round: number, pages: number): void;
  /**
   * Code that the guest will run, as offsets in bytes from its first frame. The contents of a frame may still change;
   * see `written`.
   */
  code?(starts: readonly number[]): void;
  /** A frame was written after `code` was called. */
  written?(frame: number): void;
  /** Takes the disks that move with the guest. If it is undefined, none are accepted. */
  readonly disks?: DiskTaker;
  /** Gets the state, once. RAM is complete by then. Throws RecordError with offsets within `state`. */
  state(state: Uint8Array): void;
}

/** A buffer for records of `bytes` bytes in which the pages of a batch of an even number are aligned. */
const roomFor = (bytes: number): Uint8Array =>
  new Uint8Array(alignedStart(0) + bytes).subarray(alignedStart(0));

type Expecting = 'preamble' | 'description' | 'body' | 'end' | 'nothing';

export class StreamReader {
  /** How many bytes have been read and found correct. */
  offset = 0;
  complete = false;
  pages = 0;
  private expecting: Expecting = 'preamble';
  private version = PLAIN_VERSION;
  private sequence = 0;
  /** True if somebody already uses what is in RAM. */
  private prepared = false;
  private frames = 0;
  private ram: Uint8Array = new Uint8Array(0);
  private readonly disks = new Map<number, number>();
  private buffer = roomFor(1 << 16);
  private held = 0;

  constructor(private readonly consumer: StreamConsumer) {}

  /** Takes the next bytes. Throws RecordError; the reader cannot be used after that. */
  async push(chunk: Uint8Array): Promise<void> {
    let at = 0;
    while (at < chunk.length) {
      const need = this.needed();
      const take = Math.min(need - this.held, chunk.length - at);
      this.hold(chunk.subarray(at, at + take), need);
      at += take;
      if (this.held === this.needed()) await this.record();
    }
  }

  /** To be called at the end of the input. Throws if the stream was not complete. */
  finish(): void {
    if (this.complete) return;
    throw new RecordError(
      this.offset + this.held,
      `the stream ends before it is complete (${this.expecting} expected)`,
    );
  }

  /** The size of the record that is being read, as far as it is known: at first that of its header. */
  private needed(): number {
    if (this.held < RECORD_HEADER_BYTES) return RECORD_HEADER_BYTES;
    const size = recordSize(this.buffer);
    if (size > MAX_RECORD_BYTES) {
      throw new RecordError(
        this.offset + 8,
        `a record of ${size} bytes; at most ${MAX_RECORD_BYTES} are taken`,
      );
    }
    return size;
  }

  private hold(bytes: Uint8Array, need: number): void {
    if (need > this.buffer.length) {
      // The buffer grows with what has arrived, not with what a header announces.
      const room = Math.min(need, Math.max(this.buffer.length * 2, this.held + bytes.length));
      if (this.held + bytes.length > this.buffer.length) {
        const grown = roomFor(room);
        grown.set(this.buffer.subarray(0, this.held));
        this.buffer = grown;
      }
    }
    this.buffer.set(bytes, this.held);
    this.held += bytes.length;
  }

  private async record(): Promise<void> {
    const size = this.held;
    const raw = decodeRaw(this.buffer.subarray(0, size), 0, this.offset);
    for (let i = RECORD_HEADER_BYTES + raw.body.length; i < size; i++) {
      if (this.buffer[i] !== 0) throw new RecordError(this.offset + i, 'padding must be zero');
    }
    await this.take(raw);
    this.offset += size;
    this.held = 0;
  }

  private numbered(sequence: number, raw: RawRecord): void {
    this.sequence++;
    if (sequence !== this.sequence) {
      throw new RecordError(
        raw.offset,
        `record ${raw.tag} is number ${sequence}, number ${this.sequence} expected`,
      );
    }
  }

  private async take(raw: RawRecord): Promise<void> {
    switch (this.expecting) {
      case 'preamble':
        return this.preamble(raw);
      case 'description':
        return this.description(raw);
      case 'body':
        return this.body(raw);
      case 'end':
        return this.end(raw);
      case 'nothing':
        throw new RecordError(raw.offset, 'bytes after the end of the stream');
    }
  }

  private preamble(raw: RawRecord): void {
    const head = decodeRecord(preambleRecord, raw);
    if (!STREAM_VERSIONS.includes(head.version)) {
      throw new RecordError(
        raw.offset,
        `stream of version ${head.version}; known: ${STREAM_VERSIONS.join(', ')}`,
      );
    }
    if (head.pageBytes !== PAGE_BYTES) {
      throw new RecordError(raw.offset, `pages of ${head.pageBytes} bytes; ${PAGE_BYTES} expected`);
    }
    this.version = head.version;
    this.frames = head.frames;
    this.consumer.head({ frames: head.frames, uuid: head.uuid, name: head.name });
    this.expecting = 'description';
  }

  private async description(raw: RawRecord): Promise<void> {
    const { sequence, records } = decodeRecord(descriptionRecord, raw);
    this.numbered(sequence, raw);
    const container = await this.consumer.container(records);
    if (container.frames !== this.frames) {
      throw new RecordError(
        raw.offset,
        `the description gives ${container.frames} frames, the preamble said ${this.frames}`,
      );
    }
    this.ram = container.ram;
    this.expecting = 'body';
  }

  private async body(raw: RawRecord): Promise<void> {
    if (raw.tag === 'DISK' || raw.tag === 'BLKS' || raw.tag === 'HOLE') return this.disk(raw);
    if (raw.tag === 'PAGE') {
      this.batch(raw);
      return;
    }
    if (raw.tag === 'ZERO') {
      const { sequence, frames } = decodeRecord(zeroRecord, raw);
      this.numbered(sequence, raw);
      if (frames.length > MAX_ZERO_FRAMES)
        throw new RecordError(raw.offset, 'too many zero pages in a record');
      for (const frame of frames) {
        this.inRange(frame, raw);
        this.ram.fill(0, frame * PAGE_BYTES, (frame + 1) * PAGE_BYTES);
        if (this.prepared) this.consumer.written?.(frame);
      }
      return;
    }
    if (raw.tag === 'RNDS') {
      const { sequence, round, pages } = decodeRecord(roundRecord, raw);
      this.numbered(sequence, raw);
      // Disks are swept before each round, so what has arrived is on the medium before the round continues.
      if (this.disks.size > 0) await this.consumer.disks?.flush();
      this.consumer.round?.(round, pages);
      return;
    }
    if (raw.tag === 'CODE' && this.version > PLAIN_VERSION) {
      this.code(raw);
      return;
    }
    const { sequence, records } = decodeRecord(stateRecord, raw);
    this.numbered(sequence, raw);
    this.consumer.state(records);
    this.expecting = 'end';
  }

  private code(raw: RawRecord): void {
    const { sequence, starts } = decodeRecord(codeRecord, raw);
    this.numbered(sequence, raw);
    if (starts.length > MAX_CODE_STARTS)
      throw new RecordError(
        raw.offset,
        `code in ${starts.length} places; at most ${MAX_CODE_STARTS} are taken`,
      );
    for (const start of starts) this.inRange(Math.floor(start / PAGE_BYTES), raw);
    this.prepared = true;
    this.consumer.code?.(starts);
  }

  private async disk(raw: RawRecord): Promise<void> {
    const { disks } = this.consumer;
    if (disks === undefined) throw new RecordError(raw.offset, 'a disk comes, and none was announced');
    if (raw.tag === 'DISK') {
      const { sequence, devid, bytes } = decodeRecord(diskRecord, raw);
      this.numbered(sequence, raw);
      if (this.disks.has(devid) || bytes <= 0 || bytes % 512 !== 0)
        throw new RecordError(raw.offset, `disk ${devid} of ${bytes} bytes cannot be`);
      await disks.begin(devid, bytes);
      this.disks.set(devid, bytes);
    } else if (raw.tag === 'HOLE') {
      const { sequence, devid, at, bytes } = decodeRecord(holeRecord, raw);
      this.numbered(sequence, raw);
      this.onDisk(devid, at, bytes, raw);
      await disks.write(devid, at, bytes, undefined);
    } else {
      const { sequence, devid, at, data } = decodeRecord(blocksRecord, raw);
      this.numbered(sequence, raw);
      this.onDisk(devid, at, data.length, raw);
      await disks.write(devid, at, data.length, data);
    }
  }

  private onDisk(devid: number, at: number, bytes: number, raw: RawRecord): void {
    const size = this.disks.get(devid) ?? 0;
    const right = at >= 0 && at % 512 === 0 && bytes > 0 && bytes % 512 === 0 && at + bytes <= size;
    if (!right || bytes > MAX_BLOCKS_BYTES)
      throw new RecordError(raw.offset, `${bytes} bytes at ${at} of disk ${devid}, which has ${size}`);
  }

  private batch(raw: RawRecord): void {
    const batch = decodeBatch(raw);
    this.numbered(batch.sequence, raw);
    for (let i = 0; i < batch.count; i++) {
      const frame = batch.frame(i);
      this.inRange(frame, raw);
      this.ram.set(batch.data.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES), frame * PAGE_BYTES);
      if (this.prepared) this.consumer.written?.(frame);
    }
    this.pages += batch.count;
  }

  private inRange(frame: number, raw: RawRecord): void {
    if (frame >= this.frames) {
      throw new RecordError(raw.offset, `frame ${frame} named; the guest has ${this.frames}`);
    }
  }

  private end(raw: RawRecord): void {
    const { sequence, pages } = decodeRecord(endRecord, raw);
    this.numbered(sequence, raw);
    if (pages !== this.pages) {
      throw new RecordError(raw.offset, `${pages} pages were sent, ${this.pages} arrived`);
    }
    this.expecting = 'nothing';
    this.complete = true;
  }
}
