/**
 * A kernel image cannot be used. The message is for the user: it names the part of the file, the byte offset where
 * that helps, what was expected and what was found. A bad image causes no other kind of error.
 */
export class KernelError extends Error {
  override readonly name = 'KernelError';
}

/** Formats offsets and addresses as `readelf` and Xen print them ("0x1f0"). Negative numbers are 64-bit addresses. */
export function hex(n: number | bigint): string {
  return `0x${(n < 0 ? BigInt.asUintN(64, BigInt(n)) : n).toString(16)}`;
}
