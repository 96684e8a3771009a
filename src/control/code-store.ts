/**
 * The code that guests' processes run, in a directory of its own for each version:
 *
 *     code/VERSION-SUM/   a copy of the installed package, and of the packages that a guest's process uses
 *
 * A guest's process loads some of its files late (the thread that sends its memory, for example), so it must not share
 * them with a package that may be replaced by another version while it runs.
 *
 * Invariant: a directory below code/ is complete, and never changes. It is removed when no domain of the host uses it
 * any more, and a daemon starts that has other code.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as v from 'valibot';
import { LAUNCHER } from '../guest-process/entry-points.js';
import { check } from '../protocol/check.js';
import { Failure } from '../protocol/failure.js';
import { VERSION } from '../protocol/generated/version.js';
import { parseJson } from '../protocol/json.js';
import { fields, named } from '../protocol/shapes.js';

/** Where the code of guests' processes is. */
export interface GuestCode {
  /** Its name below code/; "" for the installed package itself. */
  readonly key: string;
  /** A directory that guests' processes must be able to read; undefined for the installed package. */
  readonly root: string | undefined;
  /** The program that becomes a guest's process. */
  readonly launcher: string;
  /** URL of a module in that code, by its URL in the daemon's own; a module of somebody else stays what it is. */
  module(url: string): string;
}

/** The folder of package.json. */
const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
/** What is copied of the package. The files of people and compilers, and the command line, are not. */
const FOLDERS = ['dist', 'boot-loader'];
const LEFT_OUT = /\.(d\.ts|map|tsbuildinfo)$|^dist\/cli\//;
/** The packages that guests' processes import. */
const PACKAGES = ['koffi', 'lz4js', 'valibot', 'xz-decompress', 'zstddec'];
const MOST_DEPTH = 16;

/** The installed package itself, which must not be replaced while guests run. */
export const codeInPlace: GuestCode = {
  key: '',
  root: undefined,
  launcher: LAUNCHER,
  module: (url) => url,
};

/** True if this is an installed package, and no work tree, which has the sources beside it. */
export const isInstalled = (): boolean => !existsSync(join(PACKAGE, 'src'));

/** What is read of a package.json: names of packages, with their versions. */
const manifest = fields({
  dependencies: v.optional(named(v.string()), {}),
  optionalDependencies: v.optional(named(v.string()), {}),
});

interface Copied {
  readonly from: string;
  readonly to: string;
}

/** The files below `folder`, in a fixed order. Other things than files and folders are left out. */
function* filesIn(folder: string, depth = 0): Generator<string> {
  const entries = readdirSync(folder, { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && depth < MOST_DEPTH) yield* filesIn(path, depth + 1);
    else if (entry.isFile()) yield path;
  }
}

/** The folder of a package, as a module in `from` finds it; undefined if it is not installed. */
function packageFolder(name: string, from: string): string | undefined {
  for (const place of createRequire(join(from, 'package.json')).resolve.paths(name) ?? []) {
    const folder = join(place, name);
    if (existsSync(join(folder, 'package.json'))) return folder;
  }
  return undefined;
}

/** The packages, and those that they depend on. What is optional may be missing. */
function packagesOf(names: readonly string[], from: string, found = new Map<string, string>()) {
  for (const name of names) {
    const folder = found.has(name) ? undefined : packageFolder(name, from);
    if (folder === undefined) continue;
    found.set(name, folder);
    const text = readFileSync(join(folder, 'package.json'), 'utf8');
    const { dependencies, optionalDependencies } = check(
      manifest,
      parseJson(text),
      `package.json of ${name}`,
    );
    packagesOf([...Object.keys(dependencies), ...Object.keys(optionalDependencies)], folder, found);
  }
  return found;
}

function* allFiles(): Generator<Copied> {
  yield { from: join(PACKAGE, 'package.json'), to: 'package.json' };
  for (const folder of FOLDERS) {
    if (!existsSync(join(PACKAGE, folder))) continue;
    for (const from of filesIn(join(PACKAGE, folder))) {
      const to = relative(PACKAGE, from).split(sep).join('/');
      if (!LEFT_OUT.test(to)) yield { from, to };
    }
  }
  for (const [name, folder] of packagesOf(PACKAGES, PACKAGE))
    for (const from of filesIn(folder))
      if (!LEFT_OUT.test(from)) yield { from, to: join('node_modules', name, relative(folder, from)) };
}

/** Fails if a guest's process, which has a user of its own, cannot pass through to the directory. */
function mustBePassable(directory: string): void {
  if (process.getuid?.() !== 0) return;
  for (let at = directory; at !== dirname(at); at = dirname(at))
    if ((statSync(at).mode & 1) === 0)
      throw new Failure(
        'bad-state',
        `${at} does not let the users of guests' processes pass (mode 0711 does)`,
      );
}

/** Copies the code below `dir`/code, unless it is there. Throws if there is no room for it, for example. */
export function keepCode(dir: string): GuestCode {
  const all = [...allFiles()];
  const hash = createHash('sha256');
  for (const { from, to } of all) hash.update(`${to}\0`).update(readFileSync(from));
  const key = `${VERSION}-${hash.digest('hex').slice(0, 16)}`;
  const root = resolve(dir, 'code', key);
  mkdirSync(dir, { recursive: true });
  mustBePassable(dirname(resolve(dir)));
  if (!existsSync(root)) {
    const made = join(dir, 'code', `new-${process.pid}`);
    rmSync(made, { recursive: true, force: true });
    // Guests' processes have users of their own, and no more than this to read.
    for (const folder of [join(dir, 'code'), made]) {
      mkdirSync(folder, { recursive: true });
      chmodSync(folder, 0o755);
    }
    try {
      for (const { from, to } of all) {
        const path = join(made, to);
        mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
        copyFileSync(from, path, constants.COPYFILE_FICLONE);
        chmodSync(path, 0o644);
      }
      renameSync(made, root);
    } catch (error) {
      rmSync(made, { recursive: true, force: true });
      throw error;
    }
  }
  const at = (path: string): string => join(root, relative(PACKAGE, path));
  return {
    key,
    root,
    launcher: at(LAUNCHER),
    module(url) {
      if (!url.startsWith('file:')) return url;
      const path = fileURLToPath(url);
      return path.startsWith(join(PACKAGE, 'dist', '/')) ? pathToFileURL(at(path)).href : url;
    },
  };
}

/** Removes the directories of code that no domain uses. */
export function removeCode(dir: string, used: ReadonlySet<string>): void {
  const folder = join(dir, 'code');
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (!used.has(name)) rmSync(join(folder, name), { recursive: true, force: true });
}
