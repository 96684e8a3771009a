/** struct stat of Linux x86-64 (arch/x86/include/uapi/asm/stat.h), 144 bytes. */
import type { Stats } from 'node:fs';

export const STAT_BYTES = 144;
const FIFO = 0o10_600;

/** Returns a file's status, or without a file that of a pipe (standard streams). */
export function packStat(s: Stats | undefined): Uint8Array {
  const out = new Uint8Array(STAT_BYTES);
  const view = new DataView(out.buffer);
  const quad = (at: number, v: number): void => view.setBigUint64(at, BigInt(Math.trunc(v)), true);
  quad(0, s?.dev ?? 0);
  quad(8, s?.ino ?? 1);
  quad(16, s?.nlink ?? 1);
  view.setUint32(24, s?.mode ?? FIFO, true);
  view.setUint32(28, s?.uid ?? 0, true);
  view.setUint32(32, s?.gid ?? 0, true);
  quad(40, s?.rdev ?? 0);
  quad(48, s?.size ?? 0);
  quad(56, s?.blksize ?? 4096);
  quad(64, s?.blocks ?? 0);
  // Only files have a time that is the same in two runs: a device's time changes when it is used.
  const modified = s?.isFile() ? s.mtimeMs / 1000 : 0;
  for (let i = 0; i < 3; i++) quad(72 + 16 * i, modified);
  return out;
}
