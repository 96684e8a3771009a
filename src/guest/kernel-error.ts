/**
 * What is wrong with a kernel image, for the person who gave it. The message names the part of the file, the
 * byte offset where one helps, what was expected and what was found. Nothing else is thrown for a bad image.
 */
export class KernelError extends Error {
  override readonly name = 'KernelError';
}

/** "0x1f0": offsets and addresses as `readelf` and Xen print them; negative numbers are 64-bit addresses. */
export function hex(n: number | bigint): string {
  return `0x${(n < 0 ? BigInt.asUintN(64, BigInt(n)) : n).toString(16)}`;
}
