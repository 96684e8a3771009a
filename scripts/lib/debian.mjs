// Fetches Debian packages with apt and unpacks them, without root, into .cache/debian (not in git).
// A set of packages that was unpacked once is used again with no network at all; to have newer ones, delete it.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const CACHE = fileURLToPath(new URL('../../.cache/', import.meta.url));
const DEBIAN = join(CACHE, 'debian');
const ROOTS = join(DEBIAN, 'roots');
const STATE = join(DEBIAN, 'apt');

/** Thrown where packages cannot be had; the message says what to do. */
export class NoPackages extends Error {}

/** Options that make apt keep its lists and caches here instead of under /var, so that no root is needed. */
const ownState = () => {
  const dirs = { State: join(STATE, 'state'), Cache: join(STATE, 'cache') };
  mkdirSync(join(dirs.State, 'lists', 'partial'), { recursive: true });
  mkdirSync(join(dirs.Cache, 'archives', 'partial'), { recursive: true });
  const status = join(STATE, 'status');
  if (!existsSync(status)) writeFileSync(status, '');
  return [
    '-o',
    `Dir::State=${dirs.State}`,
    '-o',
    `Dir::State::lists=${join(dirs.State, 'lists')}`,
    '-o',
    `Dir::State::status=${status}`,
    '-o',
    `Dir::Cache=${dirs.Cache}`,
  ];
};
const ALWAYS = ['-o', 'APT::Sandbox::User=', '-o', 'APT::Architecture=amd64', '-o', 'Acquire::Retries=3'];

const run = (program, args, cwd) =>
  spawnSync(program, args, { cwd, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });

/** A meta package's real one: linux-image-amd64 gives linux-image-6.1.0-NN-amd64. */
function realName(name, options) {
  if (name !== 'linux-image-amd64') return name;
  const r = run('apt-cache', [...options, 'depends', name]);
  return /Depends: (linux-image-[0-9]\S*)/.exec(r.stdout)?.[1];
}

/** Downloads into `dir` with these apt options; returns apt's own complaint, or undefined when all came. */
function download(packages, dir, options) {
  const names = packages.map((name) => [name, realName(name, options)]);
  const lost = names.find(([, real]) => real === undefined);
  if (lost) return `E: no package list names ${lost[0]}`;
  const r = run('apt-get', [...options, '-q', 'download', ...names.map(([, real]) => real)], dir);
  if (r.error) return String(r.error);
  return r.status === 0 ? undefined : r.stderr.trim();
}

function fetchInto(packages, dir) {
  if (run('apt-get', ['--version']).error || run('dpkg-deb', ['--version']).error)
    throw new NoPackages(
      `apt-get and dpkg-deb are not on this machine, so the Debian packages ${packages.join(', ')} cannot be fetched`,
    );
  const debs = join(dir, 'debs');
  mkdirSync(debs, { recursive: true });
  let problem = download(packages, debs, ALWAYS);
  if (problem !== undefined) {
    // The machine's own package lists are missing, old or for another architecture: use lists of our own.
    const options = [...ALWAYS, ...ownState()];
    const update = run('apt-get', [...options, '-q', 'update']);
    problem = download(packages, debs, options);
    if (problem !== undefined && update.status !== 0) problem += `\n${update.stderr.trim()}`;
  }
  if (problem !== undefined)
    throw new NoPackages(`the Debian packages ${packages.join(', ')} could not be fetched:\n${problem}`);
  const root = join(dir, 'root');
  for (const deb of readdirSync(debs)) execFileSync('dpkg-deb', ['-x', join(debs, deb), root]);
  writeFileSync(join(root, '.packages'), `${readdirSync(debs).join('\n')}\n`);
  return root;
}

const SAID = new Set();

/**
 * The folder into which these packages are unpacked together, as they would lie under `/`.
 * Safe to call from several processes at once: the folder appears whole, by a rename.
 * @param {string[]} packages
 * @returns {Promise<string>}
 */
export async function fetchDebian(packages) {
  const names = [...new Set(packages)].sort();
  const key = names.join('+');
  const root = join(
    ROOTS,
    key.length <= 120 ? key : createHash('sha256').update(key).digest('hex').slice(0, 32),
  );
  if (existsSync(root)) return root;
  if (!SAID.has(key)) console.log(`stillpoint: fetching Debian packages: ${names.join(', ')}`);
  SAID.add(key);
  mkdirSync(ROOTS, { recursive: true });
  const dir = mkdtempSync(join(DEBIAN, 'new-'));
  try {
    const made = fetchInto(names, dir);
    try {
      renameSync(made, root);
    } catch (e) {
      if (!existsSync(root)) throw e; // else: another process was faster, and its folder is as good
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return root;
}
