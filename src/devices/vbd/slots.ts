/**
 * Finds the fields of a ring slot in linear memory. A slot of 112 bytes may cross from one page of the ring to the
 * next.
 */
import { type RingEnd, Sring } from '../../xen/ring.js';

export class SlotReader {
  private pages: readonly number[] = [];
  private start = 0;

  /** Selects the slot with this index. */
  set(ring: RingEnd, index: number): this {
    this.pages = ring.pages;
    this.start = Sring.sizeof + (index & (ring.slots - 1)) * ring.slotBytes;
    return this;
  }
  /**
   * Returns the linear address of the field at `offset`. A field of up to 8 bytes that is naturally aligned never
   * crosses a page.
   */
  at(offset: number): number {
    const position = this.start + offset;
    return this.pages[position >>> 12] + (position & 4095);
  }
}
