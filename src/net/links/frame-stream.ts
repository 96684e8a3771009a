/**
 * Frames on a connected socket, in both directions: for links to other programs and for the ports of our switch.
 * Invariant: what is written is bounded: beyond `limitBytes` `writable` is false, and `drained` follows once half
 * of it has left. Frames that are sent all the same are kept whole: the stream never breaks in mid-frame.
 */
import type { Socket } from 'node:net';
import type { Frame } from '../frame.js';
import { FrameDecoder, framedBytes, writeFramed } from '../framing.js';

/** Frames are gathered up to so many bytes for one write. */
const BATCH_BYTES = 262_144;
/** Batches kept for use again. */
const POOL = 4;

export interface FrameStreamClient {
  receive(frame: Frame): void;
  received(): void;
  drained(): void;
  /** The connection has ended; `why` is "" for an orderly end. Once. */
  closed(why: string): void;
}

export class FrameStream {
  private batch: Uint8Array | undefined;
  private filled = 0;
  private readonly pool: Uint8Array[] = [];
  private waitingBytes = 0;
  private blocked = false;
  private ended = false;
  private readonly decoder: FrameDecoder;

  constructor(
    private readonly socket: Socket,
    readonly offloads: boolean,
    private readonly limitBytes: number,
    private readonly client: FrameStreamClient,
  ) {
    this.decoder = new FrameDecoder(offloads, (frame) => client.receive(frame));
    socket.setNoDelay(true);
    socket.on('data', (chunk: Uint8Array) => this.take(chunk));
    socket.on('error', (error) => this.end(error.message));
    socket.on('close', () => this.end(''));
  }

  /** Bytes that arrived; also those that the caller read before it made this. */
  take(chunk: Uint8Array): void {
    if (this.ended) return;
    try {
      this.decoder.push(chunk);
    } catch (error) {
      this.end((error as Error).message);
      return;
    }
    this.client.received();
  }

  private end(why: string): void {
    if (this.ended) return;
    this.ended = true;
    this.socket.destroy();
    this.client.closed(why);
  }

  get writable(): boolean {
    if (this.waitingBytes < this.limitBytes) return true;
    this.blocked = true;
    return false;
  }

  send(frame: Frame): void {
    if (this.ended) return;
    const bytes = framedBytes(frame, this.offloads);
    if (this.filled + bytes > BATCH_BYTES) this.flush();
    this.batch ??= this.pool.pop() ?? new Uint8Array(BATCH_BYTES);
    this.filled = writeFramed(this.batch, this.filled, frame, this.offloads);
  }

  flush(): void {
    const { batch } = this;
    if (batch === undefined || this.ended) return;
    const bytes = this.filled;
    this.batch = undefined;
    this.filled = 0;
    this.waitingBytes += bytes;
    this.socket.write(batch.subarray(0, bytes), () => {
      this.waitingBytes -= bytes;
      if (this.pool.length < POOL) this.pool.push(batch);
      if (this.blocked && !this.ended && this.waitingBytes <= this.limitBytes / 2) {
        this.blocked = false;
        this.client.drained();
      }
    });
  }

  setReading(on: boolean): void {
    if (on) this.socket.resume();
    else this.socket.pause();
  }

  /** Ends it; what was sent leaves first, if it does within `timeoutMs`. */
  close(timeoutMs: number): Promise<void> {
    this.flush();
    this.ended = true;
    const { socket } = this;
    return new Promise((resolve) => {
      const timer = setTimeout(() => socket.destroy(), timeoutMs);
      socket.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      socket.resume();
      socket.end(() => socket.destroy());
    });
  }
}
