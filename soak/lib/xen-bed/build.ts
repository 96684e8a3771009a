// Makes the bed's parts from Debian 12's packages, in .cache/xen-bed (not in git), without root:
//   xen        the hypervisor of xen-hypervisor-4.17-amd64, unpacked
//   vmlinux    Debian's kernel for dom0, unpacked
//   dom0.cpio  dom0's root: Xen's tools and their libraries, bash, busybox, drivers, and what is in dom0/
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import {
  CACHE,
  fetchDebian,
  NoPackages,
  packagesKey,
  unpackDebian,
  withLibraries,
} from '../../../scripts/lib/debian.js';
import { unpackKernel } from '../../../scripts/lib/guests.js';
import { modulesIn } from '../../../scripts/lib/kernels.js';
import { keepMade, single, sumOfFiles } from '../../../scripts/lib/made.js';
import { modulesInOrder, readModule } from '../../../scripts/lib/modules.js';
import { inRoot } from '../../../scripts/lib/root.js';
import { type CpioEntry, writeCpio } from '../../../src/appliance/cpio.js';

const SUITE = 'bookworm';
const XEN = '4.17';
const KERNEL = 'linux-image-amd64';
/** Xen's tools, all libraries that they use, and what their scripts want. */
const PACKAGES = [
  `xen-hypervisor-${XEN}-amd64`,
  `xen-utils-${XEN}`,
  'xen-utils-common',
  'xenstore-utils',
  `libxenmisc${XEN}`,
  'libxencall1',
  'libxendevicemodel1',
  'libxenevtchn1',
  'libxenforeignmemory1',
  'libxengnttab1',
  'libxenhypfs1',
  'libxenstore4',
  'libxentoolcore1',
  'libxentoollog1',
  'libyajl2',
  'libnl-3-200',
  'libnl-route-3-200',
  'libuuid1',
  'liblzma5',
  'liblzo2-2',
  'libbz2-1.0',
  'libzstd1',
  'libfdt1',
  'zlib1g',
  'libc6',
  // Threads are cancelled with its help.
  'libgcc-s1',
  'libtinfo6',
  'bash',
  // Xen's scripts for disks take locks by its flock, which the static busybox has not.
  'util-linux',
  'busybox-static',
];
// Debian's own start script prefers oxenstored to the xenstored in C, which ends now and then by an assertion of its own.
const PROGRAMS = ['xl', 'oxenstored', 'xenconsoled', 'xenconsole', 'xen-init-dom0', 'libxl-save-helper'];
const MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  'virtio_net',
  'crc32c_generic',
  'ext4',
  'loop',
  'bridge',
  'xenfs',
  'xen-evtchn',
  'xen-gntdev',
  'xen-gntalloc',
  'xen-privcmd',
  'xen-blkback',
  'xen-netback',
];
const HERE = 'soak/lib/xen-bed';
const SOURCES = [
  `${HERE}/build.ts`,
  ...['init', 'agent', 'counting-ssh'].map((name) => `${HERE}/dom0/${name}.sh`),
  'src/appliance/cpio.ts',
  'scripts/lib/modules.ts',
];
const LIBRARIES = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'];

/** Where the bed's parts are: `dir` holds xen, vmlinux and dom0.cpio; all else are absolute paths. */
export interface BedParts {
  readonly dir: string;
}

/** Makes what is missing. Throws NoPackages, which says why, where Debian's packages cannot be had. */
export async function buildBed(): Promise<BedParts> {
  const dir = join(CACHE, 'xen-bed');
  const words = packagesKey([...PACKAGES, KERNEL], { suite: SUITE });
  await keepMade(dir, sumOfFiles(words, SOURCES), async (temporary) => {
    console.log("stillpoint: making the bed of Xen's tests");
    const root = await fetchDebian(PACKAGES, { suite: SUITE });
    const kernelRoot = unpackDebian([KERNEL], temporary, { suite: SUITE });
    const kernel = single(join(kernelRoot, 'boot'), (f) => f.startsWith('vmlinuz-'));
    const modules = modulesIn(kernelRoot);
    const hypervisor = single(join(root, 'boot'), (f) => /^xen-[\d.]+-amd64[.]gz$/.test(f));
    if (kernel === undefined || modules === undefined || hypervisor === undefined)
      throw new NoPackages(`Debian's packages of ${SUITE} have no Xen or no kernel in them`);
    return {
      xen: gunzipSync(readFileSync(hypervisor)),
      vmlinux: await unpackKernel(kernel),
      'dom0.cpio': writeCpio(await dom0Entries(root, modules)),
    };
  });
  return { dir };
}

async function dom0Entries(root: string, modules: string): Promise<CpioEntry[]> {
  const file = (path: string, from: string, mode = 0o755): CpioEntry => ({
    path,
    mode,
    data: readFileSync(from),
  });
  const own = (name: string) => inRoot(`${HERE}/dom0/${name}.sh`);
  const busybox = ['usr/bin/busybox', 'bin/busybox'].map((f) => join(root, f)).find(existsSync);
  if (busybox === undefined) throw new NoPackages('the Debian package busybox-static has no busybox in it');
  const tools = join(root, `usr/lib/xen-${XEN}`);
  const entries: CpioEntry[] = [
    { path: 'dev/console', char: [5, 1] },
    ...['proc', 'sys', 'tmp', 'run', 'root', 's', 'usr/sbin', 'var/lib/xen', 'var/log'].map((path) => ({
      path,
      dir: true as const,
    })),
    file('init', own('init')),
    file('sbin/agent', own('agent')),
    file('sbin/counting-ssh', own('counting-ssh')),
    file('bin/busybox', busybox),
    file('bin/bash', join(root, 'bin/bash')),
    file('usr/bin/flock', join(root, 'usr/bin/flock')),
    { path: 'etc/hostname', data: 'bed\n' },
    { path: 'etc/passwd', data: 'root:x:0:0:root:/root:/bin/bash\n' },
    { path: 'etc/group', data: 'root:x:0:\n' },
    { path: 'etc/xen/xl.conf', data: '' },
    file('etc/xen/oxenstored.conf', join(root, 'etc/xen/oxenstored.conf'), 0o644),
    ...PROGRAMS.map((name) => file(`usr/lib/xen-${XEN}/bin/${name}`, join(tools, 'bin', name))),
    // Xen's scripts and `xl migrate` look for it there.
    { path: 'usr/sbin/xl', link: `../lib/xen-${XEN}/bin/xl` },
    // The kernel of the PV shim.
    file(`usr/lib/xen-${XEN}/boot/xen-shim`, join(tools, 'boot/xen-shim'), 0o644),
    ...['read', 'write', 'ls', 'list', 'rm', 'exists', 'watch', 'chmod'].map((name) =>
      file(`usr/bin/xenstore-${name}`, join(root, `usr/bin/xenstore-${name}`)),
    ),
  ];
  const scripts = join(root, 'etc/xen/scripts');
  for (const name of readdirSync(scripts))
    entries.push(
      file(`etc/xen/scripts/${name}`, join(scripts, name), statSync(join(scripts, name)).mode & 0o777),
    );
  const loader = LIBRARIES.map((d) => join(root, d, 'ld-linux-x86-64.so.2')).find(existsSync);
  if (loader === undefined) throw new NoPackages('the Debian package libc6 has no loader in it');
  entries.push(file('lib64/ld-linux-x86-64.so.2', realpathSync(loader)));
  const seen = new Set<string>();
  for (const dir of LIBRARIES.map((d) => join(root, d)).filter(existsSync))
    for (const name of readdirSync(dir).filter((f) => /^lib.*[.]so([.]|$)/.test(f))) {
      if (seen.has(name)) continue;
      seen.add(name);
      entries.push(file(`lib/x86_64-linux-gnu/${name}`, realpathSync(join(dir, name))));
    }
  const order = await modulesInOrder(modules, MODULES);
  for (const path of order)
    entries.push({ path: `modules/${basename(path)}`, data: await readModule(join(modules, path)) });
  entries.push({ path: 'modules/order', data: order.map((path) => `${basename(path)}\n`).join('') });
  return entries;
}

/** A program, what it is told first, and the environment in which it runs. */
export interface Emulator {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/**
 * QEMU: the machine's own, else that of Debian's packages, unpacked. STILLPOINT_QEMU=package takes the latter in any
 * case.
 */
export async function findEmulator(): Promise<Emulator> {
  const installed = (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'qemu-system-x86_64'))
    .find((file) => existsSync(file));
  if (installed !== undefined && process.env.STILLPOINT_QEMU !== 'package')
    return { file: installed, args: [], env: process.env };
  const root = await fetchDebian([...withLibraries('qemu-system-x86'), 'qemu-system-data', 'seabios']);
  const libraries = LIBRARIES.map((d) => join(root, d));
  return {
    file: join(root, 'usr/bin/qemu-system-x86_64'),
    args: ['qemu', 'seabios'].flatMap((name) => ['-L', join(root, 'usr/share', name)]),
    env: { ...process.env, LD_LIBRARY_PATH: libraries.join(delimiter) },
  };
}
