/**
 * The appliance's initramfs: what a helper domain boots from, apart from its guest's files. Each file in it and its
 * format is told in docs/appliance.md. The same parts give the same bytes.
 */
import { type CpioEntry, writeCpio } from './cpio.js';
import { ENVIRONMENT, IMAGE, initElf, MODULES, PROGRAM, SYSCTLS } from './init.js';

/** JSON: an ApplianceVersion. */
export const VERSION_FILE = '/etc/stillpoint/version';
/** Where the image is mounted, and the folders in it that programs expect at the root. */
const MOUNTED = 'stillpoint';
const FOLDERS_OF_IMAGE = ['lib', 'lib64'];
const MODULES_FOLDER = '/modules';

/** The kernel modules of a helper domain; those that they depend on are loaded before them. */
export const WANTED_MODULES: readonly string[] = [
  'loop',
  'squashfs',
  'xenfs',
  'xen-privcmd',
  'xen-evtchn',
  'xen-blkfront',
  'xen-netfront',
  'macvtap',
  'tap',
  'tun',
  'af_packet',
];

/**
 * Parameters of modules. Newer Linux refuses hypercalls of programs in domUs, also those that concern nobody else, unless
 * it is told not to; older Linux passes over the word. Source: Linux, drivers/xen/privcmd.c.
 */
const PARAMETERS: Readonly<Record<string, string>> = { 'xen-privcmd.ko': ' unrestricted=1' };

/** Node, with the options that a guest's process of a daemon has too: the young generation stays small. */
const PROGRAM_LINES = [
  `/${MOUNTED}/bin/node`,
  '--max-semi-space-size=4',
  `/${MOUNTED}/dist/appliance/main.js`,
];

const ENVIRONMENT_LINES = [
  'HOME=/',
  'TERM=linux',
  // Each thread would else keep free memory of its own.
  'MALLOC_ARENA_MAX=2',
];

const SYSCTL_LINES = [
  // A failure of the kernel ends the domain at once, as a crash of which dom0 hears.
  '/proc/sys/kernel/panic 1',
  '/proc/sys/kernel/panic_on_oops 1',
  // A domain that dom0 had paused is not stuck, and the guest's console is no place to say so.
  '/proc/sys/kernel/watchdog 0',
  // `xl sysrq` is for the guest.
  '/proc/sys/kernel/sysrq 0',
  '/proc/sys/kernel/kptr_restrict 2',
  '/proc/sys/kernel/dmesg_restrict 1',
  // What is needed is loaded.
  '/proc/sys/kernel/modules_disabled 1',
  // The helper itself says nothing on the guest's network.
  '/proc/sys/net/ipv6/conf/all/disable_ipv6 1',
  '/proc/sys/net/ipv6/conf/default/disable_ipv6 1',
  // Large pages only for the guest's memory, which asks for them.
  '/sys/kernel/mm/transparent_hugepage/enabled madvise',
  // For large pages Linux has just put aside a twentieth of its memory. This is more than it does without them.
  '/proc/sys/vm/min_free_kbytes 6144',
];

export interface ApplianceVersion {
  /** The version of Stillpoint. */
  readonly stillpoint: string;
  /** The kernel's own name for its version (uname -r). */
  readonly kernel: string;
  /** The version of Node, without "v". */
  readonly node: string;
}

export interface ApplianceParts {
  readonly version: ApplianceVersion;
  /** A squashfs file system with bin/node, its libraries, dist and node_modules. */
  readonly image: Uint8Array;
  /** Unpacked modules by the names of their files, in an order in which they can be loaded. */
  readonly modules: readonly { readonly file: string; readonly data: Uint8Array }[];
}

const lines = (all: readonly string[]): string => all.map((line) => `${line}\n`).join('');
/** An archive has no leading slash. */
const inArchive = (path: string): string => path.replace(/^\//, '');

/** A cpio archive, unpacked. Archives of other files may follow it: Linux reads them all. */
export function applianceInitrd({ version, image, modules }: ApplianceParts): Uint8Array {
  const text = (path: string, data: string): CpioEntry => ({ path: inArchive(path), data });
  return writeCpio([
    // The kernel opens it for the first program before anything is mounted.
    { path: 'dev/console', char: [5, 1] },
    ...['proc', 'sys', 'run', 'tmp', MOUNTED].map((path) => ({ path, dir: true as const })),
    { path: 'init', mode: 0o755, data: initElf() },
    ...['poweroff', 'reboot', 'halt'].map((name) => ({ path: `sbin/${name}`, link: '../init' })),
    ...FOLDERS_OF_IMAGE.map((path) => ({ path, link: `${MOUNTED}/${path}` })),
    text(VERSION_FILE, `${JSON.stringify(version)}\n`),
    text(PROGRAM, lines(PROGRAM_LINES)),
    text(ENVIRONMENT, lines(ENVIRONMENT_LINES)),
    text(SYSCTLS, lines(SYSCTL_LINES)),
    text(MODULES, lines(modules.map(({ file }) => `${MODULES_FOLDER}/${file}${PARAMETERS[file] ?? ''}`))),
    ...modules.map(({ file, data }) => ({ path: `${inArchive(MODULES_FOLDER)}/${file}`, data })),
    { path: inArchive(IMAGE), data: image },
  ]);
}
