// Unpacks xz, for kernels and modules that come packed with it, by the xz program: the machine's own, else Debian's.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fetchDebian } from './debian.mjs';

/** @param {Uint8Array} bytes one xz stream @returns {Promise<Buffer>} */
export async function unxz(bytes) {
  const run = (program) =>
    spawnSync(program, ['-dc', '--single-stream'], { input: bytes, maxBuffer: 1 << 30 });
  let r = run('xz');
  if (r.error?.code === 'ENOENT') r = run(join(await fetchDebian(['xz-utils']), 'usr/bin/xz'));
  if (r.error || r.status !== 0) throw new Error(`xz: ${r.error?.message ?? r.stderr}`);
  return r.stdout;
}
