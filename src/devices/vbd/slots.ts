/** Where the fields of a slot are in linear memory: slots of 112 bytes may cross from one page of a ring to the next. */
import { type RingEnd, Sring } from '../../xen/ring.js';

export class SlotReader {
  private pages: readonly number[] = [];
  private start = 0;

  /** Points at the slot of an index. */
  set(ring: RingEnd, index: number): this {
    this.pages = ring.pages;
    this.start = Sring.sizeof + (index & (ring.slots - 1)) * ring.slotBytes;
    return this;
  }
  /** Linear address of the field at this offset; fields of up to 8 bytes at their own alignment never cross a page. */
  at(offset: number): number {
    const place = this.start + offset;
    return this.pages[place >>> 12] + (place & 4095);
  }
}
