// GRUB for guests that boot from their own disks, in .cache/boot-loader/ (not in git), from Debian's package grub-xen-bin:
//   SUM/grub-x86_64-xen.bin   GRUB as a 64-bit PV kernel, with all its modules and with scripts/lib/grub.cfg
//   SUM/copyright             Debian's file about who wrote GRUB, and where its source is
//   SUM/COPYING               its licence: the GNU General Public License, version 3
//   current                   a link to the build that was made or used last
// GRUB is under the GPL, version 3 or later; the image stands beside Stillpoint, and is no part of it.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { writeCpio } from '../../src/appliance/cpio.js';
import { SETTINGS_BYTES, SETTINGS_MARK } from '../../src/guest/boot-loader.js';
import { BOOT_LOADER_FILE } from '../../src/os/boot-loader.js';
import { CACHE, fetchDebian } from './debian.js';
import { handOverKernel } from './hand-over.js';
import { keepMade, sumOfFiles } from './made.js';
import { inRoot } from './root.js';

const SUITE = 'trixie';
const PACKAGES = [
  ...['grub-xen-bin', 'grub-common', 'libc6', 'liblzma5', 'libdevmapper1.02.1', 'libselinux1', 'libudev1'],
  ...['libpcre2-8-0', 'libcap2', 'base-files'],
];
const PLATFORM = 'x86_64-xen';
const SOURCES = [
  ...['grub.ts', 'grub.cfg', 'hand-over.ts'].map((file) => `scripts/lib/${file}`),
  'src/guest/boot-loader.ts',
];
/** In the image's kernel from the start; GRUB finds all other modules in its archive when it needs them. */
const FIRST =
  'memdisk newc normal legacycfg syslinuxcfg regexp test eval echo linux loadenv loopback part_msdos part_gpt lvm mdraid09 mdraid1x ext2 xfs btrfs';
/** Modules of graphics and of self tests, which no menu of a guest has a use for. */
const NOT_NEEDED = /_test[.]mod$|^(functional|test_blockarg|testload|testspeed|gfxmenu|hello|morse)[._]/;

/**
 * Commands of a menu that are functions in grub.cfg. A function only counts where there is no command of its name: in the
 * image GRUB's own begin with a capital letter.
 */
const RENAMED: Readonly<Record<string, readonly (readonly [before: string, name: string, after: string])[]>> =
  {
    'linux.mod': [
      ['\0', 'linux', '\0multiboot\0'],
      ['\0', 'initrd', '\0'],
    ],
    'legacycfg.mod': [
      ['\0', 'legacy_kernel', '\0'],
      ['\0', 'legacy_initrd', '\0'],
    ],
  };
const OURS = /^\*?(linux|initrd|multiboot|module|legacy_kernel|legacy_initrd):/;

/** Returns a module in which commands have other names. Throws if it is not as expected. */
function renamed(module: string, data: Buffer): Buffer {
  for (const [before, name, after] of RENAMED[module] ?? []) {
    const text = `${before}${name}${after}`;
    const at = data.indexOf(text, 0, 'latin1');
    if (at < 0 || data.indexOf(text, at + 1, 'latin1') >= 0)
      throw new Error(`GRUB's ${module} does not have the command ${name} once`);
    data.write(name[0].toUpperCase(), at + before.length, 'latin1');
  }
  return data;
}

/** GRUB's archive: its modules, the lists of what they contain, and our files. */
function archive(folder: string): Uint8Array {
  const file = (path: string, data: Uint8Array | string) => ({ path: `boot/grub/${path}`, data });
  const lists = readdirSync(folder).filter((name) => /[.](mod|lst)$/.test(name) && !NOT_NEEDED.test(name));
  const room = SETTINGS_MARK + '\n'.repeat(SETTINGS_BYTES - SETTINGS_MARK.length);
  return writeCpio([
    file('grub.cfg', readFileSync(inRoot('scripts/lib/grub.cfg'))),
    file('settings.cfg', room),
    file('hand-over', handOverKernel()),
    ...lists.sort().map((name) => {
      const data = readFileSync(join(folder, name));
      if (name !== 'command.lst') return file(`${PLATFORM}/${name}`, data);
      const kept = data
        .toString('latin1')
        .split('\n')
        .filter((line) => !OURS.test(line));
      return file(`${PLATFORM}/${name}`, kept.join('\n'));
    }),
  ]);
}

function image(root: string, temporary: string): Buffer {
  const from = join(root, 'usr/lib/grub', PLATFORM);
  const modules = join(temporary, 'modules');
  mkdirSync(modules);
  for (const name of readdirSync(from))
    writeFileSync(join(modules, name), renamed(name, readFileSync(join(from, name))));
  const [memory, output] = [join(temporary, 'archive'), join(temporary, 'image')];
  writeFileSync(memory, archive(modules));
  const libraries = join(root, 'usr/lib/x86_64-linux-gnu');
  const { status, stderr, error } = spawnSync(
    join(libraries, 'ld-linux-x86-64.so.2'),
    [
      ...['--library-path', libraries, join(root, 'usr/bin/grub-mkimage'), '-O', PLATFORM, '-d', modules],
      ...['-m', memory, '-p', '(memdisk)/boot/grub', '-o', output, ...FIRST.split(' ')],
    ],
    { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } },
  );
  if (status !== 0) throw new Error(`grub-mkimage: ${error?.message ?? stderr.trim()}`);
  return readFileSync(output);
}

export interface BootLoaderBuild {
  readonly dir: string;
  readonly image: string;
  /** Debian's package of GRUB, with its version. */
  readonly from: string;
}

/** Makes what is missing. Throws NoPackages, which says why, where Debian's packages cannot be had. */
export async function ensureGrub(): Promise<BootLoaderBuild> {
  const root = await fetchDebian(PACKAGES, { suite: SUITE });
  const packages = readFileSync(join(root, '.packages'), 'utf8');
  const from = packages.split('\n').find((name) => name.startsWith('grub-xen-bin_')) ?? '';
  const folder = join(CACHE, 'boot-loader');
  const sum = sumOfFiles(packages, SOURCES).slice(0, 32);
  const dir = join(folder, sum);
  mkdirSync(folder, { recursive: true });
  await keepMade(dir, sum, async (temporary) => {
    console.log('stillpoint: making the boot loader');
    const licence = readFileSync(join(root, 'usr/share/doc/grub-common/copyright'), 'utf8');
    return {
      [BOOT_LOADER_FILE]: image(root, temporary),
      COPYING: readFileSync(join(root, 'usr/share/common-licenses/GPL-3')),
      copyright: `${BOOT_LOADER_FILE} was made of Debian's package ${from} by \`npm run grub\` of Stillpoint (scripts/lib/grub.ts:
some commands have other names, and grub.cfg is Stillpoint's). Debian's source package grub2 of this version is its source.
Stillpoint itself contains nothing of it. This is Debian's file about its licence:

${licence}`,
    };
  });
  const link = join(folder, `current.${process.pid}`);
  symlinkSync(sum, link);
  renameSync(link, join(folder, 'current'));
  return { dir, image: join(dir, BOOT_LOADER_FILE), from };
}

/** Puts a copy into a folder. */
export function copyGrub({ dir }: BootLoaderBuild, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of [BOOT_LOADER_FILE, 'copyright', 'COPYING']) {
    copyFileSync(join(dir, name), join(to, `${name}.part`));
    renameSync(join(to, `${name}.part`), join(to, name));
  }
}
