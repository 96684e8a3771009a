/** Bitmaps of frames. They have one bit for each frame, starting with bit 0 of byte 0. */

export const bitmapBytes = (frames: number): number => (frames + 7) >>> 3;

export function hasBit(bitmap: Uint8Array, index: number): boolean {
  return (bitmap[index >>> 3] & (1 << (index & 7))) !== 0;
}
export function setBit(bitmap: Uint8Array, index: number): void {
  bitmap[index >>> 3] |= 1 << (index & 7);
}
export function clearBit(bitmap: Uint8Array, index: number): void {
  bitmap[index >>> 3] &= ~(1 << (index & 7));
}
/** Sets the first `frames` bits. */
export function fillBits(bitmap: Uint8Array, frames: number): void {
  bitmap.fill(0xff, 0, frames >>> 3);
  if ((frames & 7) !== 0) bitmap[frames >>> 3] = (1 << (frames & 7)) - 1;
}
/** The first set bit at or after `from`, or -1. */
export function nextBit(bitmap: Uint8Array, from: number, frames: number): number {
  let i = from;
  while (i < frames) {
    if ((i & 7) === 0 && bitmap[i >>> 3] === 0) i += 8;
    else if (hasBit(bitmap, i)) return i;
    else i++;
  }
  return -1;
}
