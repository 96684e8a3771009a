/**
 * What the pre-copy loop sends through: the parts of the stream, without saying where they go or which thread sends them.
 * worker-sender.ts implements it with a worker thread and a socket.
 */
import type { RoundResult, StreamHead } from './stream-writer.js';

export interface PageSender {
  begin(head: StreamHead, description: Uint8Array): Promise<void>;
  /** A disk of `bytes` bytes moves with the guest. */
  disk(devid: number, bytes: number): Promise<void>;
  /**
   * Sends contents of a disk, which must not change until the promise settles. `fresh`: nothing of the disk was sent
   * yet.
   */
  blocks(devid: number, at: number, data: Uint8Array, fresh: boolean): Promise<void>;
  /** Sends the pages set in `bitmap`, which must not change until the promise settles. `round` 0 is the last one. */
  round(round: number, bitmap: Uint8Array, pages: number): Promise<RoundResult>;
  /** Sends the places of code that the guest runs often, so that the other side can prepare it. */
  code(starts: Uint32Array): Promise<void>;
  /** Sends the state and the end of the stream. Resolves when everything has left this process. */
  end(state: Uint8Array): Promise<number>;
  setBandwidth(bytesPerSecond: number): void;
  /** Gives up: everything in progress fails. */
  abort(reason: string): void;
}
