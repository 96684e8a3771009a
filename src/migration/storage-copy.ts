/**
 * Disks that travel with a guest, where its hosts share no storage: copied while it runs, and what it wrote since
 * again and again, and the rest when it has stopped.
 */
import type { PageSender } from './page-sender.js';

/** A disk of the guest that is copied. */
export interface TravellingDisk {
  readonly devid: number;
  readonly bytes: number;
  /** Bytes of it that are still to be copied: all at first, then what the guest wrote since. */
  readonly pending: number;
  /** Once over the disk: what is to be copied goes to `block`. The data, shared memory, is reused after that. */
  sweep(block: (at: number, data: Uint8Array) => Promise<void>): Promise<void>;
}

/** The destination's side: disks that are being filled. All is zero at first. */
export interface DiskTaker {
  /** A disk of the guest comes. Throws what is wrong with that. */
  begin(devid: number, bytes: number): Promise<void>;
  /** `data` undefined: zeros. */
  write(devid: number, at: number, bytes: number, data: Uint8Array | undefined): Promise<void>;
  /** Resolves when all that was written is on the medium. */
  flush(): Promise<void>;
}

/** How far the copying of disks is, in bytes. */
export interface StorageProgress {
  readonly copied: number;
  readonly pending: number;
}

/** Sweeps before the guest's memory is sent, at most. */
const MAX_SWEEPS = 8;
/** So little is left for the rounds of memory copying, which take it with them. */
const LITTLE_BYTES = 4 << 20;
/** Between two words on the progress, bytes. */
const PROGRESS_BYTES = 64 << 20;

export class StorageSender {
  copied = 0;
  private told = 0;

  constructor(
    private readonly disks: readonly TravellingDisk[],
    private readonly sender: PageSender,
    private readonly progress: (progress: StorageProgress) => void = () => {},
    /** How long a disk may take to be read from, ms. */
    private readonly answerMs = Number.POSITIVE_INFINITY,
  ) {}

  get pending(): number {
    return this.disks.reduce((sum, disk) => sum + disk.pending, 0);
  }

  /** While the guest runs: whole disks, then what was written since, until that is little or does not get less. */
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

  /** Sends what is pending now. `fresh`: nothing was sent before, so that zeros need not be. */
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

/** Notices a disk that gives nothing: what waits for it would wait for ever. */
class ReadWatch {
  private timer: NodeJS.Timeout | undefined;
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
