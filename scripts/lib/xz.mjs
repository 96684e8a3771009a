// Unpacks xz, for kernels and modules that come packed with it, by the xz program.
import { spawnSync } from 'node:child_process';

/** @param {Uint8Array} bytes one xz stream @returns {Buffer} */
export function unxz(bytes) {
  const r = spawnSync('xz', ['-dc', '--single-stream'], { input: bytes, maxBuffer: 1 << 30 });
  if (r.error) throw new Error(`xz is needed to unpack kernels and modules: ${r.error.message}`);
  if (r.status !== 0) throw new Error(`xz: ${r.stderr}`);
  return r.stdout;
}
