// Decompresses xz, for kernels and modules that are compressed with it, by the program xz: the machine's own, else
// Debian's.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fetchDebian } from './debian.js';
import { codeOf } from './errors.js';

/** Returns the contents of one xz stream. */
export async function unxz(bytes: Uint8Array): Promise<Uint8Array> {
  const run = (program: string) =>
    spawnSync(program, ['-dc', '--single-stream'], { input: bytes, maxBuffer: 1 << 30 });
  let r = run('xz');
  if (codeOf(r.error) === 'ENOENT') r = run(join(await fetchDebian(['xz-utils']), 'usr/bin/xz'));
  if (r.error || r.status !== 0) throw new Error(`xz: ${r.error?.message ?? r.stderr}`);
  return r.stdout;
}
