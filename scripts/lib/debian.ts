// Fetches Debian packages with apt and unpacks them, without root, into .cache/debian (not in git).
// A set of packages that was unpacked once is used again with no network at all; to have newer ones, delete it.
// With a suite (bullseye, bookworm, trixie, sid), packages come from that one, wherever the machine's own sources lie:
// with a sources list, package lists and caches of our own, so that apt's state under /var stays as it is.
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

/** Thrown where packages cannot be had; the message says what to do. */
export class NoPackages extends Error {}

/** Where packages come from: a suite ("bullseye", "sid"), without it the machine's own sources; amd64 unless said. */
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
 * The sources list of one suite: on the servers that the machine's own sources name, for the archive and, where they
 * name one, for security updates.
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

/** Options for apt with our own state in `dir`: the machine's own sources, or those of one suite. */
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
  // Not that of the machine beside it.
  '-o',
  'APT::Architectures=',
  '-o',
  'Acquire::Retries=3',
];

/**
 * The packages that have a kernel's files, where `name` is a meta package (linux-image-amd64 gives
 * linux-image-6.1.0-NN-amd64) or one that only holds others together (linux-image-7.2.NN gives the kernel's own and that
 * of its modules). Undefined where no package list has it.
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
/** Older builds that are tried where a mirror lacks the newest that its lists name. */
const OLDER = 5;

/** Other builds of the same series and kind of kernel that the package lists name, the newest first. */
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

/** Downloads into `dir` with these apt options; returns apt's own complaint, or undefined when all came. */
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

/** Package lists made anew in `dir`; apt's complaint, or undefined. */
function update(dir: string, from: Source): string | undefined {
  const r = run('apt-get', [...optionsIn(dir, from), '-q', 'update']);
  return r.status === 0 ? undefined : String(r.stderr ?? r.error).trim();
}

/**
 * Downloads with lists of our own: those of before where they still name what can be had, else new ones. They are made
 * beside those and take their place as a whole, so that several processes at once do no harm to each other.
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
    // Another process has put its own there, which are as good.
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
  // The machine's own package lists may be missing, old or for another architecture: then lists of our own.
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

/** One name for a set of packages, to be a folder's. No package has an underscore in its name. */
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

/** Packages unpacked together below `dir`/root, as they would lie under `/`; gives that folder. */
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
 * The folder into which these packages are unpacked together, as they would lie under `/`.
 * Safe to call from several processes at once: the folder appears whole, by a rename.
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
 * A program's package and all libraries that it needs, by the machine's own package lists: as if nothing were installed,
 * so that all of them can be unpacked together. Without the C library, which belongs to the machine.
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
