/** The frames that were written: one byte for each, set by the core's slow path for stores and by touch(). */
import type { DirtyLog } from '../engine.js';
import type { LinearRam } from '../ram.js';

export class WasmDirtyLog implements DirtyLog {
  private running = false;

  constructor(
    /** Makes the next store to each page take the slow path, which marks the page. */
    private readonly flushWrites: () => void,
    private readonly ram: LinearRam,
    /** Linear address of the bytes. */
    private readonly at: number,
  ) {}

  start(): void {
    this.ram.mem.bytes(this.at, this.ram.frames).fill(0);
    this.flushWrites();
    this.running = true;
  }

  read(into: Uint8Array, first = 0, count = this.ram.frames - first): number {
    const { frames, mem } = this.ram;
    if (!this.running) throw new Error('the dirty log is not running');
    const end = first + count;
    if (first < 0 || count < 0 || end > frames || into.length * 8 < end)
      throw new RangeError(`frames ${first} to ${end} of ${frames}, ${into.length} bytes for them`);
    const dirty = mem.bytes(this.at, frames);
    let found = 0;
    const take = (from: number, to: number): void => {
      for (let frame = from; frame < to; frame++) {
        if (dirty[frame] === 0) continue;
        dirty[frame] = 0;
        into[frame >> 3] |= 1 << (frame & 7);
        found++;
      }
    };
    // Four bytes at a time, between the unaligned ends of the range.
    const start = Math.min(end, first + (-(this.at + first) & 3));
    take(first, start);
    if (start < end) {
      const words = new Uint32Array(mem.buffer, this.at + start, (end - start) >> 2);
      for (let w = 0; w < words.length; w++) if (words[w] !== 0) take(start + 4 * w, start + 4 * w + 4);
      take(start + 4 * words.length, end);
    }
    this.flushWrites();
    return found;
  }

  stop(): void {
    this.running = false;
  }
}
