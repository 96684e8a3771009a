/**
 * A PageSender with a thread of its own, so that copying, checksums, encryption and the socket take no time from the
 * guest's thread. Invariant: one request is in progress at a time. Once one has failed, all later ones fail.
 *
 * The order of memory accesses. The sending thread reads three things directly, without atomic accesses:
 *
 * what why that is right a round's bitmap it is written before `postMessage` of the request, which orders it before
 * the thread's reads. It is not
 *                     written again before the response, which orders the reads before the next writes
 * blocks of a disk the same holds. They are read from the disk by threads of its link; the file ring orders those
 * reads before
 *                     the guest's thread, which comes before the request (src/host/disk/file-ring.ts)
 * the guest's RAM nothing orders the reading of a page in a round against the guest that writes it meanwhile, so the
 * copy may
 *                     mix two states. The guest's thread marks the frame in the dirty log and collects the log itself, so the
 *                     page is in the bitmap of a later round. The last round is requested when the guest is stopped and its
 *                     links are quiet; that request orders all writes before the reads
 *
 * What arrives is written into RAM by the guest's own thread, before the first transfer of a disk is submitted there.
 */

import { Worker } from 'node:worker_threads';
import { WORKER_LIMITS } from '../os/worker-limits.js';
import type { DataAddress } from './data-channel.js';
import type { PageSender } from './page-sender.js';
import type { SenderRequest, SenderResponse } from './sender-protocol.js';
import type { RoundResult, StreamHead } from './stream-writer.js';

export class WorkerSender implements PageSender {
  private waiting: { resolve(r: SenderResponse): void; reject(e: Error): void } | undefined;
  private failure: Error | undefined;
  private finished = false;
  private readonly worker: Worker;
  private readonly connected: Promise<SenderResponse>;

  /** `onFailure` is called at once if the connection breaks between two requests. */
  constructor(
    address: DataAddress,
    ram: Uint8Array,
    frames: number,
    /** How long the other side may take no data, in ms. */
    answerMs = Number.POSITIVE_INFINITY,
    private readonly onFailure: (error: Error) => void = () => {},
  ) {
    if (!(ram.buffer instanceof SharedArrayBuffer)) {
      throw new TypeError('the RAM of a guest that is moved must be shared memory');
    }
    this.worker = new Worker(new URL('./sender-worker.js', import.meta.url), {
      workerData: { address, ram, frames, answerMs },
      resourceLimits: WORKER_LIMITS,
    });
    this.connected = new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
    this.connected.catch(() => {});
    this.worker.on('message', (response: SenderResponse) => {
      if (response.failed !== undefined) this.fail(new Error(response.failed));
      else this.settle(response);
    });
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', () => this.fail(new Error('the sending thread ended')));
  }

  private settle(response: SenderResponse): void {
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.resolve(response);
  }

  private fail(error: Error): void {
    if (this.failure !== undefined || this.finished) return;
    this.failure = error;
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.reject(error);
    this.onFailure(error);
    void this.worker.terminate();
  }

  private async ask(request: SenderRequest): Promise<SenderResponse> {
    await this.connected;
    if (this.failure !== undefined) throw this.failure;
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.worker.postMessage(request);
    });
  }

  async begin(head: StreamHead, description: Uint8Array): Promise<void> {
    const { frames, uuid, name, version } = head;
    await this.ask({ do: 'begin', head: { frames, uuid, name, version }, description });
  }
  async disk(devid: number, bytes: number): Promise<void> {
    await this.ask({ do: 'disk', devid, bytes });
  }
  async blocks(devid: number, at: number, data: Uint8Array, fresh: boolean): Promise<void> {
    await this.ask({ do: 'blocks', devid, at, data, fresh });
  }
  async round(round: number, bitmap: Uint8Array, pages: number): Promise<RoundResult> {
    return (await this.ask({ do: 'round', round, bitmap, pages })).round!;
  }
  async code(starts: Uint32Array): Promise<void> {
    await this.ask({ do: 'code', starts });
  }
  async end(state: Uint8Array): Promise<number> {
    const { bytes } = await this.ask({ do: 'end', state });
    this.finished = true;
    return bytes!;
  }
  setBandwidth(bytesPerSecond: number): void {
    void this.connected.then(
      () => this.worker.postMessage({ do: 'bandwidth', bytesPerSecond } satisfies SenderRequest),
      () => {},
    );
  }
  abort(reason: string): void {
    this.finished = false;
    this.fail(new Error(reason));
  }
  /** Ends the thread when its work is done. */
  close(): void {
    this.finished = true;
    void this.worker.terminate();
  }
}
