/**
 * Copies the disks that move with a guest whose hosts share no storage: all blocks while the guest runs, then
 * repeatedly the blocks that it has written since, and the rest when it has stopped.
 */
import type { StorageProgress } from '../protocol/moves.js';
import type { PageSender } from './page-sender.js';

/** A disk of the guest that is copied. */
export interface TravellingDisk {
  readonly devid: number;
  readonly bytes: number;
  /** How many bytes of it are still to be copied: at first all, later those that the guest has written since. */
  readonly pending: number;
  /**
   * Goes over the disk once and passes what has to be copied to `block`. The data, in shared memory, is reused after
   * `block` has resolved.
   */
  sweep(block: (at: number, data: Uint8Array) => Promise<void>): Promise<void>;
}

/** The destination's side: disks that are being filled. They are all zero at first. */
export interface DiskTaker {
  /** A disk of the guest arrives. Rejects if it cannot be taken. */
  begin(devid: number, bytes: number): Promise<void>;
  /** Writes `data`, or zeros if it is undefined. */
  write(devid: number, at: number, bytes: number, data: Uint8Array | undefined): Promise<void>;
  /** Resolves when everything that was written is on the medium. */
  flush(): Promise<void>;
}

/** The maximum number of sweeps before the guest's memory is sent. */
const MAX_SWEEPS = 8;
/** So little, in bytes, is left to the rounds of memory copying, which also copy the remaining blocks. */
const LITTLE_BYTES = 4 << 20;
/** Progress is reported after this many bytes. */
const PROGRESS_BYTES = 64 << 20;

export class DiskSender {
  copied = 0;
  private told = 0;

  constructor(
    private readonly disks: readonly TravellingDisk[],
    private readonly sender: PageSender,
    private readonly progress: (progress: StorageProgress) => void = () => {},
    /** How long reading from a disk may take, in ms. */
    private readonly answerMs = Number.POSITIVE_INFINITY,
  ) {}

  get pending(): number {
    return this.disks.reduce((sum, disk) => sum + disk.pending, 0);
  }

  /**
   * Copies while the guest runs: first whole disks, then what was written since, until that is little or no longer
   * decreases.
   */
  async begin(): Promise<void> {
    for (const { devid, bytes } of this.disks) await this.sender.disk(devid, bytes);
    for (let sweeps = 0, before = Number.POSITIVE_INFINITY; sweeps < MAX_SWEEPS; sweeps++) {
      const { pending } = this;
      if (pending <= LITTLE_BYTES && sweeps > 0) break;
      if (pending > before * 0.7) break;
      before = pending;
      await this.sweep(sweeps === 0);
    }
  }

  /** Sends what is pending now. `fresh` means that nothing was sent before, so zeros need not be sent. */
  async sweep(fresh = false): Promise<void> {
    for (const disk of this.disks) {
      const reading = new ReadWatch(disk.devid, this.answerMs);
      reading.begin();
      const swept = disk.sweep(async (at, data) => {
        reading.end();
        await this.sender.blocks(disk.devid, at, data, fresh);
        reading.begin();
        this.copied += data.length;
        if (this.copied - this.told < PROGRESS_BYTES) return;
        this.told = this.copied;
        this.progress({ copied: this.copied, pending: this.pending });
      });
      await Promise.race([swept, reading.late]).finally(() => reading.end());
    }
  }
}

/** Detects a disk that returns no data, because the move would otherwise wait for it for ever. */
class ReadWatch {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private fail: (error: Error) => void = () => undefined;
  readonly late = new Promise<never>((_, reject) => {
    this.fail = reject;
  });

  constructor(
    private readonly devid: number,
    private readonly answerMs: number,
  ) {
    this.late.catch(() => undefined);
  }
  begin(): void {
    if (!Number.isFinite(this.answerMs)) return;
    const words = `disk ${this.devid} cannot be read: no answer within ${this.answerMs / 1000} s`;
    this.timer = setTimeout(() => this.fail(new Error(words)), this.answerMs);
  }
  end(): void {
    clearTimeout(this.timer);
  }
}
