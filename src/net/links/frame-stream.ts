/**
 * Frames on a connected socket, in both directions. It serves links to other programs and the ports of our switch.
 *
 * Invariant: the amount that waits to be written is bounded. Beyond `limitBytes`, `writable` is false, and `drained`
 * is called once half of it has left. A frame that is sent nevertheless is kept whole, so the stream never breaks
 * within a frame.
 */
import type { Socket } from 'node:net';
import type { Frame } from '../frame.js';
import { FrameDecoder, framedBytes, writeFramed } from '../framing.js';

/** Frames are gathered into batches of up to this many bytes for one write. */
const BATCH_BYTES = 262_144;
/** How many batches are kept for reuse. */
const POOL = 4;

interface FrameStreamClient {
  receive(frame: Frame): void;
  received(): void;
  drained(): void;
  /** The connection has ended. `why` is "" if it ended properly. It is called once. */
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

  /** To be called with bytes that have arrived, including those that the caller read before it created this object. */
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

  /** Closes the connection. What was sent leaves first, if that takes at most `timeoutMs`. */
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
