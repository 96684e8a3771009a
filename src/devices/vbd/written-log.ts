/**
 * Which blocks of a disk are still to be copied: at first all of them, later those that the guest has written since
 * they were taken.
 */

/** The size of a block, in bytes. */
export const LOG_BLOCK_BYTES = 65_536;
const LOG_BLOCK_SECTORS = LOG_BLOCK_BYTES / 512;

/** A run of adjacent blocks: where it begins and how long it is, in bytes. */
export interface Run {
  readonly at: number;
  readonly bytes: number;
}

export class WrittenLog {
  private readonly noted: Uint8Array;
  private count: number;

  constructor(private readonly bytes: number) {
    this.count = Math.ceil(bytes / LOG_BLOCK_BYTES);
    this.noted = new Uint8Array(this.count).fill(1);
  }

  /** To be called when the guest's write to these sectors is done, or has failed and may have been done in part. */
  add(sector: number, sectors: number): void {
    const end = Math.min(Math.ceil((sector + sectors) / LOG_BLOCK_SECTORS), this.noted.length);
    for (let i = Math.floor(sector / LOG_BLOCK_SECTORS); i < end; i++) {
      if (this.noted[i] === 0) this.count++;
      this.noted[i] = 1;
    }
  }

  /** How many bytes are still to be copied. */
  get pending(): number {
    return Math.min(this.count * LOG_BLOCK_BYTES, this.bytes);
  }

  /**
   * Removes the first run of noted blocks at or after `from` from the log and returns it; it is at most `most` bytes
   * long. Returns undefined if there is none.
   */
  take(from: number, most: number): Run | undefined {
    const first = this.noted.indexOf(1, Math.ceil(from / LOG_BLOCK_BYTES));
    if (first < 0) return undefined;
    let end = first;
    for (const last = first + most / LOG_BLOCK_BYTES; end < last && this.noted[end] === 1; end++)
      this.noted[end] = 0;
    this.count -= end - first;
    const at = first * LOG_BLOCK_BYTES;
    return { at, bytes: Math.min(end * LOG_BLOCK_BYTES, this.bytes) - at };
  }
}
