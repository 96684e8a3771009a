/**
 * What the pre-copy loop sends through: the parts of the stream, without saying where they go or which thread sends them.
 * worker-sender.ts implements it with a worker thread and a socket.
 */
import type { RoundResult, StreamHead } from './stream-writer.js';

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
