// Debian's Chromium, from PATH or from its packages, for tests in a browser.
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fetchDebian, withLibraries } from '../../scripts/lib/debian.js';

/** A program, and the environment in which it runs. */
export interface Browser {
  readonly file: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Throws NoPackages where it is available in neither way. */
export async function findChromium(): Promise<Browser> {
  const installed = (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'chromium'))
    .find((file) => existsSync(file));
  if (installed !== undefined) return { file: installed, env: process.env };
  const root = await fetchDebian(withLibraries('chromium'));
  const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/nss'];
  return {
    file: join(root, 'usr/lib/chromium/chromium'),
    env: { ...process.env, LD_LIBRARY_PATH: libraries.map((f) => join(root, f)).join(delimiter) },
  };
}
