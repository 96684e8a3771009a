// Downloads Debian packages with apt and unpacks them, without root, into .cache/debian (not in git). A set of packages
// that has been unpacked is used again without any network; to get newer ones, delete it. With a suite (bullseye,
// bookworm, trixie, sid), packages come from that suite, whatever the machine's own sources are: with our own sources
// list, package lists and caches, so that apt's state under /var does not change.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inRoot } from './root.js';

export const CACHE = inRoot('.cache');
const DEBIAN = join(CACHE, 'debian');
const ROOTS = join(DEBIAN, 'roots');
const APT = join(DEBIAN, 'apt');
const AMD64 = 'amd64';

/** Thrown where packages are not available; the message says what to do. */
export class NoPackages extends Error {}

/**
 * Where packages come from: a suite ("bullseye", "sid"), or the machine's own sources if none is given; amd64 by
 * default.
 */
export interface DebianSource {
  readonly suite?: string;
  readonly architecture?: string;
}
type Source = DebianSource & { readonly architecture: string };

const run = (program: string, args: readonly string[], cwd?: string) =>
  spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, LC_ALL: 'C' },
  });

/** Options that make apt keep its lists and caches in `dir` instead of under /var, so that no root is needed. */
const stateIn = (dir: string): string[] => {
  const dirs = { State: join(dir, 'state'), Cache: join(dir, 'cache') };
  mkdirSync(join(dirs.State, 'lists', 'partial'), { recursive: true });
  mkdirSync(join(dirs.Cache, 'archives', 'partial'), { recursive: true });
  const status = join(dir, 'status');
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

const KEYRINGS = ['pgp', 'gpg'].map((end) => `/usr/share/keyrings/debian-archive-keyring.${end}`);

/**
 * The sources list of one suite, on the servers that the machine's own sources name: for the archive and, where they
 * name such a server, for security updates.
 */
function sourcesOf({ suite, architecture }: Source): string {
  const r = run('apt-get', ['indextargets', '--format', '$(REPO_URI) $(RELEASE)', 'Created-By: Packages']);
  const targets = (r.stdout ?? '')
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  const security = ([, release]: string[]) => /-security$/.test(release);
  const archive = targets.find((target) => target[0] !== '' && !security(target));
  if (archive === undefined)
    throw new NoPackages(`the machine's own apt sources name no archive to take the suite ${suite} from`);
  const keyring = KEYRINGS.find((file) => existsSync(file));
  const options = `[arch=${architecture}${keyring === undefined ? '' : ` signed-by=${keyring}`}]`;
  const lines = [`deb ${options} ${archive[0]} ${suite} main`];
  const updates = targets.find(security);
  if (suite !== 'sid' && updates !== undefined)
    lines.push(`deb ${options} ${updates[0]} ${suite}-security main`);
  return `${lines.join('\n')}\n`;
}

/** Options for apt with its state in `dir`: with the machine's own sources, or those of one suite. */
function optionsIn(dir: string, from: Source): string[] {
  const options = [...always(from), ...stateIn(dir)];
  if (from.suite === undefined) return options;
  const list = join(dir, 'sources.list');
  if (!existsSync(list)) writeFileSync(list, sourcesOf(from));
  return [
    ...options,
    '-o',
    `Dir::Etc::sourcelist=${list}`,
    '-o',
    'Dir::Etc::sourceparts=/dev/null',
    '-o',
    'Acquire::Languages=none',
  ];
}

const always = (from: Source): string[] => [
  '-o',
  'APT::Sandbox::User=',
  '-o',
  `APT::Architecture=${from.architecture}`,
  // The machine's own sources must not be used in addition.
  '-o',
  'APT::Architectures=',
  '-o',
  'Acquire::Retries=3',
];

/**
 * Returns the packages that contain a kernel's files, where `name` is a meta package (linux-image-amd64 gives
 * linux-image-6.1.0-NN-amd64) or one that only depends on others (linux-image-7.2.NN gives the kernel's package and
 * that of its modules). Undefined: no package list has it.
 */
function realNames(name: string, options: readonly string[]): string[] | undefined {
  if (!/^linux-image-/.test(name)) return [name];
  const r = run('apt-cache', [...options, 'depends', name]);
  if (!r.stdout?.includes(name)) return undefined;
  const parts = [...r.stdout.matchAll(/^ *Depends: (linux-(?:image|binary|modules)-[0-9]\S*)/gm)];
  if (parts.length === 0) return [name];
  const all: string[] = [];
  for (const [, part] of parts) {
    const names = realNames(part, options);
    if (names === undefined) return undefined;
    all.push(...names);
  }
  return all;
}

const SERIES = /^linux-image-(\d+\.\d+)[\d.]*(?:-\d+)?(?:\+deb[\d.]+)?(-\S+)$/;
/** How many older builds are tried where a mirror lacks the newest one in its lists. */
const OLDER = 5;

/** Returns other builds of the same series and kind of kernel from the package lists, the newest first. */
function olderBuilds(name: string, options: readonly string[]): string[] {
  const [, series, kind] = SERIES.exec(name) ?? [];
  if (series === undefined) return [];
  const names = run('apt-cache', [...options, 'pkgnames', `linux-image-${series}`]).stdout ?? '';
  return names
    .split('\n')
    .filter((other) => {
      const found = SERIES.exec(other);
      return other !== name && found?.[1] === series && found[2] === kind;
    })
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
    .slice(0, OLDER);
}

/**
 * Downloads into `dir` with these apt options. Returns apt's error message, or undefined when everything was
 * downloaded.
 */
function download(packages: readonly string[], dir: string, options: readonly string[]): string | undefined {
  const names: string[] = [];
  for (const name of packages) {
    const real = realNames(name, options);
    if (real === undefined) return `E: no package list names ${name}`;
    names.push(...real);
  }
  const get = (wanted: readonly string[]) => {
    const r = run('apt-get', [...options, '-q', 'download', ...wanted], dir);
    if (r.error) return String(r.error);
    return r.status === 0 ? undefined : r.stderr.trim();
  };
  const complaint = get(names);
  if (complaint === undefined || packages.length !== 1 || packages[0] === names[0]) return complaint;
  return olderBuilds(names[0], options).some((name) => get([name]) === undefined) ? undefined : complaint;
}

/** Makes new package lists in `dir`. Returns apt's error message, or undefined. */
function update(dir: string, from: Source): string | undefined {
  const r = run('apt-get', [...optionsIn(dir, from), '-q', 'update']);
  return r.status === 0 ? undefined : String(r.stderr ?? r.error).trim();
}

/**
 * Downloads with our own package lists: the existing ones if the packages that they name are still available, else new
 * ones. New lists are made beside the old ones and replace them as a whole, so that several processes do not disturb
 * one another.
 */
function downloadWithOwnLists(
  packages: readonly string[],
  debs: string,
  dir: string,
  from: Source,
): string | undefined {
  const kept = join(APT, `${from.suite ?? 'machine'}-${from.architecture}`);
  if (existsSync(kept) && download(packages, debs, optionsIn(kept, from)) === undefined) return undefined;
  const lists = join(dir, 'apt');
  const complaint = update(lists, from);
  const problem = download(packages, debs, optionsIn(lists, from));
  if (problem !== undefined) return [problem, complaint].filter(Boolean).join('\n');
  mkdirSync(APT, { recursive: true });
  try {
    rmSync(kept, { recursive: true, force: true });
    renameSync(lists, kept);
  } catch {
    // Another process has put its own lists there, which are as good.
  }
  return undefined;
}

const ofSuite = ({ suite, architecture }: Source): string =>
  `${suite === undefined ? '' : ` of ${suite}`}${architecture === AMD64 ? '' : ` for ${architecture}`}`;

function fetchInto(packages: readonly string[], dir: string, from: Source): string {
  if (run('apt-get', ['--version']).error || run('dpkg-deb', ['--version']).error)
    throw new NoPackages(
      `apt-get and dpkg-deb are not on this machine, so the Debian packages ${packages.join(', ')} cannot be fetched`,
    );
  const debs = join(dir, 'debs');
  mkdirSync(debs, { recursive: true });
  // The machine's own package lists may be missing, outdated or for another architecture: then our own lists are used.
  let problem: string | undefined;
  const machines = from.suite === undefined && from.architecture === AMD64;
  if (!machines || download(packages, debs, always(from)) !== undefined)
    problem = downloadWithOwnLists(packages, debs, dir, from);
  if (problem !== undefined)
    throw new NoPackages(
      `the Debian packages ${packages.join(', ')}${ofSuite(from)} could not be fetched:\n${problem}`,
    );
  const root = join(dir, 'root');
  for (const deb of readdirSync(debs)) execFileSync('dpkg-deb', ['-x', join(debs, deb), root]);
  writeFileSync(join(root, '.packages'), `${readdirSync(debs).join('\n')}\n`);
  return root;
}

/** Returns one name for a set of packages, to be used for a folder. Package names have no underscores. */
export function packagesKey(
  packages: readonly string[],
  { suite, architecture = AMD64 }: DebianSource = {},
): string {
  const from = [suite, architecture === AMD64 ? undefined : architecture].filter(Boolean).join('_');
  const names = `${from && `${from}_`}${[...new Set(packages)].sort().join('+')}`;
  return names.length <= 120 ? names : createHash('sha256').update(names).digest('hex').slice(0, 32);
}

const SAID = new Set<string>();
const WORD = /^[a-z][a-z0-9-]*$/;

/** Unpacks packages together below `dir`/root, as they would be under `/`. Returns that folder. */
export function unpackDebian(
  packages: readonly string[],
  dir: string,
  { suite, architecture = AMD64 }: DebianSource = {},
): string {
  for (const word of [suite, architecture])
    if (word !== undefined && !WORD.test(word))
      throw new Error(`"${word}" is no name of a Debian suite or architecture`);
  const from = { suite, architecture };
  const names = [...new Set(packages)].sort();
  const key = packagesKey(names, from);
  if (!SAID.has(key))
    console.log(`stillpoint: fetching Debian packages${ofSuite(from)}: ${names.join(', ')}`);
  SAID.add(key);
  return fetchInto(names, dir, from);
}

/**
 * Returns the folder into which these packages are unpacked together, as they would be under `/`. Several processes may
 * call it at once: the folder appears complete, by a rename.
 */
export async function fetchDebian(packages: readonly string[], from: DebianSource = {}): Promise<string> {
  const root = join(ROOTS, packagesKey(packages, from));
  if (existsSync(root)) return root;
  mkdirSync(ROOTS, { recursive: true });
  const dir = mkdtempSync(join(DEBIAN, 'new-'));
  try {
    const made = unpackDebian(packages, dir, from);
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

/**
 * Returns a program's package and those of all libraries that it needs, by the machine's own package lists, as if
 * nothing were installed, so that they can be unpacked together. The C library is left out: the machine's own is used.
 */
export function withLibraries(name: string): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-apt-'));
  try {
    const status = join(dir, 'status');
    writeFileSync(status, '');
    const options = ['-s', '-o', `Dir::State::status=${status}`, '-o', 'APT::Install-Recommends=0'];
    const { stdout } = run('apt-get', [...options, 'install', name]);
    const all = [...(stdout ?? '').matchAll(/^Inst (\S+)/gm)].map(([, one]) => one);
    if (!all.includes(name))
      throw new NoPackages(`the machine's package lists have no ${name} that can be installed`);
    return all.filter(
      (one) =>
        one === name ||
        one === `${name}-common` ||
        (/^lib/.test(one) && !/^libc6$|perl|^libpam|^libllvm|mesa-dri/.test(one)),
    );
  } finally {
    rmSync(dir, { recursive: true });
  }
}
