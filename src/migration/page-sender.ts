/**
 * What the pre-copy loop sends through: the stream's parts without saying where they go or on which thread.
 * Two implementations: in place (save to a file, tests), and a worker thread with a socket (a move).
 */
import { type RoundResult, type StreamHead, type StreamSink, StreamWriter } from './stream-writer.js';

export interface PageSender {
  begin(head: StreamHead, description: Uint8Array): Promise<void>;
  /** A disk of so many bytes comes with the guest. */
  disk(devid: number, bytes: number): Promise<void>;
  /** Contents of a disk, which must stay as they are until the promise settles. `fresh`: nothing of it was sent yet. */
  blocks(devid: number, at: number, data: Uint8Array, fresh: boolean): Promise<void>;
  /** `bitmap` must stay as it is until the promise settles. `round` 0 is the last one. */
  round(round: number, bitmap: Uint8Array, pages: number): Promise<RoundResult>;
  /** Code that the guest runs often, for the other side to prepare. */
  code(starts: Uint32Array): Promise<void>;
  /** State and end of the stream; resolves when all of it has left this process. */
  end(state: Uint8Array): Promise<number>;
  setBandwidth(bytesPerSecond: number): void;
  /** Gives up; what is under way fails. */
  abort(reason: string): void;
}

/** Sends from this thread, giving the guest its turns between two batches. */
export class DirectSender implements PageSender {
  private readonly writer: StreamWriter;
  private aborted: string | undefined;
  private turnStarted = 0;

  constructor(
    private readonly ram: Uint8Array,
    private readonly frames: number,
    sink: StreamSink,
    bytesPerSecond = 0,
    /** Longest time that is spent at a stretch before other events have their turn. */
    private readonly sliceMs = 2,
  ) {
    this.writer = new StreamWriter(async (bytes) => {
      if (this.aborted !== undefined) throw new Error(this.aborted);
      await sink(bytes);
      if (performance.now() - this.turnStarted < this.sliceMs) return;
      await new Promise<void>((done) => setImmediate(done));
      this.turnStarted = performance.now();
    }, bytesPerSecond);
  }
  begin(head: StreamHead, description: Uint8Array): Promise<void> {
    return this.writer.begin(head, description);
  }
  disk(devid: number, bytes: number): Promise<void> {
    return this.writer.disk(devid, bytes);
  }
  blocks(devid: number, at: number, data: Uint8Array, fresh: boolean): Promise<void> {
    return this.writer.blocks(devid, at, data, fresh);
  }
  round(round: number, bitmap: Uint8Array, pages: number): Promise<RoundResult> {
    this.turnStarted = performance.now();
    return this.writer.round(round, bitmap, pages, this.frames, this.ram);
  }
  code(starts: Uint32Array): Promise<void> {
    return this.writer.code(starts);
  }
  async end(state: Uint8Array): Promise<number> {
    await this.writer.end(state);
    return this.writer.bytes;
  }
  setBandwidth(bytesPerSecond: number): void {
    this.writer.setBandwidth(bytesPerSecond);
  }
  abort(reason: string): void {
    this.aborted = reason;
  }
}
