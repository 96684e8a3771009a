// The appliance of helper domains, in .cache/appliance/ (not in git), from Debian's packages, Node's from npm, and dist/:
//   SUM/vmlinux    Debian's kernel for clouds, unpacked: an ELF file that Xen boots as PVH
//   SUM/initrd     src/appliance/image.ts: an initramfs with our init, and all else in a squashfs image
//   SUM/version    what is in them: JSON, an ApplianceVersion
//   base/SUM/      that image without dist/, which changes more often than the rest and is put into it last
//   current        a link to the build that was made or used last
// The same inputs give the same bytes. Where an input changes, so does SUM; the folders used last are kept.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { neededLibraries, stripped } from '../../src/appliance/elf-file.js';
import { type ApplianceVersion, applianceInitrd, WANTED_MODULES } from '../../src/appliance/image.js';
import { VERSION } from '../../src/protocol/generated/version.js';
import { CACHE, fetchDebian, NoPackages } from './debian.js';
import { unpackKernel } from './guests.js';
import { modulesIn } from './kernels.js';
import { keepMade, single, sumOfFiles } from './made.js';
import { modulesInOrder, readModule } from './modules.js';
import { ensureNode, NODE_VERSIONS } from './node-versions.js';
import { inRoot } from './root.js';

const SUITE = 'bookworm';
const KERNEL = 'linux-image-cloud-amd64';
const LIBRARIES = ['libc6', 'libstdc++6', 'libgcc-s1'];
const SQUASHFS_TOOLS = [
  'squashfs-tools',
  ...['libc6', 'liblz4-1', 'liblzma5', 'liblzo2-2', 'libzstd1', 'zlib1g'],
];
const MULTIARCH = 'x86_64-linux-gnu';
const LOADER = 'ld-linux-x86-64.so.2';
/** Programs of users: a helper domain runs neither. */
const NOT_IN_IMAGE = new Set(['cli', 'demo']);
const PACKAGES_OF_USERS = new Set(['commander']);
/** What Node reads at run time, and licences. */
const RUN_TIME_FILE = /[.](js|cjs|mjs|json|node|wasm)$|^(licen[cs]e|notice|copying)/i;
/** Builds that are kept beside the newest. */
const KEPT = 3;

/** What a build consists of. */
export const APPLIANCE_FILES = ['vmlinux', 'initrd', 'version'] as const;

const SOURCES = ['scripts/lib/appliance.ts', 'src/appliance/elf-file.ts'];
const IMAGE_SOURCES = ['cpio', 'image', 'init'].map((name) => `src/appliance/${name}.ts`);

export interface Appliance {
  readonly dir: string;
  readonly vmlinux: string;
  readonly initrd: string;
  readonly version: ApplianceVersion;
}

/** The line of Node with long-term support that is supported longest. */
const NODE = NODE_VERSIONS.find((version) => version.startsWith('24.')) ?? NODE_VERSIONS[0];

interface Lock {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly dependencies?: Readonly<Record<string, string>>;
        readonly optionalDependencies?: Readonly<Record<string, string>>;
        readonly cpu?: readonly string[];
        readonly os?: readonly string[];
      }
    >
  >;
}

/** The folders of node_modules that `dist` uses at run time, as paths from the work tree's root, in order. */
export function runTimePackages(lock: Lock, machine = 'x64', system = 'linux'): string[] {
  const found = new Set<string>();
  const add = (from: string) => {
    const { dependencies = {}, optionalDependencies = {} } = lock.packages[from];
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      if (PACKAGES_OF_USERS.has(name)) continue;
      // As Node looks for it: in the folder of the package that wants it, then further up.
      for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('node_modules') - 1))) {
        const path = `${at === '' ? '' : `${at}/`}node_modules/${name}`;
        const one = lock.packages[path];
        if (one === undefined) {
          if (at === '')
            throw new Error(`package-lock.json has no ${name}, which ${from || 'the project'} needs`);
          continue;
        }
        const fits = (one.cpu?.includes(machine) ?? true) && (one.os?.includes(system) ?? true);
        if (fits && !found.has(path)) {
          found.add(path);
          add(path);
        }
        break;
      }
    }
  };
  add('');
  return [...found].sort();
}

/** The files of a folder that `wanted` names, as sorted paths from it. Nested node_modules are packages of their own. */
const filesOf = (folder: string, wanted: (path: string) => boolean): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => !path.startsWith('node_modules/') && wanted(path))
    .sort();

/** Those of dist/ that a helper domain may run. */
const distFiles = (): string[] =>
  filesOf(inRoot('dist'), (path) => path.endsWith('.js') && !NOT_IN_IMAGE.has(path.split('/')[0]));

/** Writes a file of the image to come. */
function put(stage: string, path: string, data: Uint8Array | string, mode = 0o644): void {
  const file = join(stage, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, data);
  chmodSync(file, mode);
}

/** Where Debian's package has a library; undefined where it has none of this name. */
const libraryIn = (root: string, name: string): string | undefined =>
  ['lib', 'usr/lib'].map((folder) => join(root, folder, MULTIARCH, name)).find((file) => existsSync(file));

/** Node and all libraries that it needs. */
async function putNode(stage: string): Promise<void> {
  const root = await fetchDebian(LIBRARIES, { suite: SUITE });
  const node = readFileSync(await ensureNode(NODE));
  put(stage, 'bin/node', stripped(node, 'node'), 0o755);
  const waiting = [...neededLibraries(node, 'node')];
  const known = new Set(waiting);
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    const file = libraryIn(root, name);
    if (file === undefined)
      throw new NoPackages(`the Debian packages ${LIBRARIES.join(', ')} have no ${name}, which Node needs`);
    const library = readFileSync(realpathSync(file));
    put(stage, `lib/${MULTIARCH}/${name}`, stripped(library, name), 0o755);
    for (const more of neededLibraries(library, name))
      if (!known.has(more)) {
        known.add(more);
        waiting.push(more);
      }
  }
  // By its first name the kernel finds it.
  put(stage, `lib64/${LOADER}`, readFileSync(join(stage, 'lib', MULTIARCH, LOADER)), 0o755);
}

function putPackages(stage: string): void {
  const lock = JSON.parse(readFileSync(inRoot('package-lock.json'), 'utf8'));
  for (const path of runTimePackages(lock)) {
    const folder = inRoot(path);
    // Optional packages may not be installed.
    if (!existsSync(folder)) continue;
    for (const file of filesOf(folder, (f) => RUN_TIME_FILE.test(basename(f)) && !f.includes('musl'))) {
      const data = readFileSync(join(folder, file));
      put(stage, join(path, file), file.endsWith('.node') ? stripped(data, join(path, file)) : data);
    }
  }
  put(stage, 'package.json', readFileSync(inRoot('package.json')));
  put(stage, 'LICENSE', readFileSync(inRoot('LICENSE')));
}

/** Packs `folders` of `stage` into the image `file`, or adds them to it. */
async function squash(stage: string, folders: readonly string[], file: string): Promise<void> {
  const root = await fetchDebian(SQUASHFS_TOOLS, { suite: SUITE });
  const folder = (...parts: string[]) => join(root, ...parts);
  const chmodFolders = (at: string) => {
    chmodSync(at, 0o755);
    for (const entry of readdirSync(at, { withFileTypes: true }))
      if (entry.isDirectory()) chmodFolders(join(at, entry.name));
  };
  chmodFolders(stage);
  const { status, stderr, error } = spawnSync(
    folder('lib', MULTIARCH, LOADER),
    [
      ...['--library-path', [folder('lib', MULTIARCH), folder('usr/lib', MULTIARCH)].join(':')],
      folder('usr/bin/mksquashfs'),
      ...folders.map((name) => join(stage, name)),
      file,
      ...['-comp', 'zstd', '-Xcompression-level', '19', '-b', '128K'],
      ...['-all-root', '-all-time', '0', '-mkfs-time', '0', '-no-xattrs', '-no-exports'],
      // With one folder, its contents would become the root's.
      ...[
        '-root-mode',
        '0755',
        '-keep-as-directory',
        '-no-recovery',
        '-quiet',
        '-no-progress',
        '-processors',
        '2',
      ],
    ],
    { encoding: 'utf8', env: { ...process.env, SOURCE_DATE_EPOCH: undefined, LC_ALL: 'C' } },
  );
  if (status !== 0) throw new Error(`mksquashfs: ${error?.message ?? stderr.trim()}`);
}

/** The image without dist/. */
async function baseImage(temporary: string): Promise<Uint8Array> {
  const stage = join(temporary, 'base');
  await putNode(stage);
  putPackages(stage);
  const file = join(temporary, 'base.squashfs');
  await squash(stage, readdirSync(stage).sort(), file);
  return readFileSync(file);
}

/** That image with dist/ in it. */
async function withDist(base: string, temporary: string): Promise<Uint8Array> {
  const stage = join(temporary, 'with-dist');
  for (const path of distFiles()) put(stage, join('dist', path), readFileSync(inRoot(join('dist', path))));
  const file = join(temporary, 'whole.squashfs');
  copyFileSync(base, file);
  await squash(stage, ['dist'], file);
  return readFileSync(file);
}

/** Removes all but the folders used last. */
function prune(folder: string, inUse: string): void {
  const all = readdirSync(folder)
    .filter((name) => /^[0-9a-f]{32}$/.test(name) && name !== inUse)
    .map((name) => ({ name, used: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => b.used - a.used);
  for (const { name } of all.slice(KEPT)) rmSync(join(folder, name), { recursive: true, force: true });
  const now = new Date();
  utimesSync(join(folder, inUse), now, now);
}

const short = (sum: string): string => sum.slice(0, 32);
/** Which packages, with their versions, lie unpacked at `root`. */
const packagesAt = (root: string): string => readFileSync(join(root, '.packages'), 'utf8');

/** Makes what is missing. Throws NoPackages, which says why, where Debian's packages or Node cannot be had. */
export async function ensureAppliance(): Promise<Appliance> {
  const kernelRoot = await fetchDebian([KERNEL], { suite: SUITE });
  const libraries = await fetchDebian(LIBRARIES, { suite: SUITE });
  const tools = await fetchDebian(SQUASHFS_TOOLS, { suite: SUITE });
  const modules = modulesIn(kernelRoot);
  const kernel = single(join(kernelRoot, 'boot'), (f) => f.startsWith('vmlinuz-'));
  if (modules === undefined || kernel === undefined)
    throw new NoPackages(`the Debian package ${KERNEL} of ${SUITE} has no kernel in it`);
  const version: ApplianceVersion = { stillpoint: VERSION, kernel: basename(modules), node: NODE };

  const root = join(CACHE, 'appliance');
  const words = [NODE, packagesAt(libraries), packagesAt(tools)].join('\n');
  const baseSum = short(sumOfFiles(words, [...SOURCES, 'package.json', 'package-lock.json', 'LICENSE']));
  const base = join(root, 'base', baseSum);
  await keepMade(base, baseSum, async (temporary) => {
    console.log('stillpoint: making the base of the appliance');
    return { 'image.squashfs': await baseImage(temporary) };
  });

  const dist = createHash('sha256');
  for (const path of distFiles()) {
    const data = readFileSync(inRoot(join('dist', path)));
    dist.update(`${path} ${data.length}\n`).update(data);
  }
  const inputs = [baseSum, JSON.stringify(version), packagesAt(kernelRoot), dist.digest('hex')].join('\n');
  const sum = short(sumOfFiles(inputs, IMAGE_SOURCES));
  const dir = join(root, sum);
  await keepMade(dir, sum, async (temporary) => {
    console.log('stillpoint: making the appliance');
    const order = await modulesInOrder(modules, WANTED_MODULES);
    return {
      version: `${JSON.stringify(version)}\n`,
      vmlinux: await unpackKernel(kernel),
      initrd: applianceInitrd({
        version,
        image: await withDist(join(base, 'image.squashfs'), temporary),
        modules: await Promise.all(
          order.map(async (path) => ({
            file: basename(path).replace(/[.]xz$/, ''),
            data: await readModule(join(modules, path)),
          })),
        ),
      }),
    };
  });
  prune(join(root, 'base'), baseSum);
  prune(root, sum);
  const link = join(dirname(dir), `current.${process.pid}`);
  symlinkSync(sum, link);
  renameSync(link, join(root, 'current'));
  return { dir, vmlinux: join(dir, 'vmlinux'), initrd: join(dir, 'initrd'), version };
}
