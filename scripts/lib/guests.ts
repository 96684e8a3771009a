// The real guests that tests, benches and the demo run, in .cache/guests/ (not in git):
//   vmlinuz                Debian's current amd64 kernel (bzImage)
//   vmlinux                the same, unpacked (ELF)
//   initramfs.cpio.gz      busybox, the Xen drivers, scripts/lib/init.sh
//   grub-x86_64-xen.bin    GRUB as a 64-bit PV kernel;  grub-i386-xen.bin: as a 32-bit one (only read, never run)
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { unpackKernel as unpackBzImage } from '../../src/guest/bzimage.js';
import { CACHE, fetchDebian, NoPackages } from './debian.js';
import { messageOf } from './errors.js';
import { makeInitramfs } from './initramfs.js';
import { debianBusybox, modulesIn } from './kernels.js';
import { INITRAMFS_SOURCES, keepMade, single, sumOfInputs } from './made.js';
import { writeModulesDep } from './modules.js';
import { unxz } from './xz.js';

/** Files of the user's own in place of Debian's. */
const OWN = {
  STILLPOINT_KERNEL: 'a bzImage of a Linux with CONFIG_XEN_PV',
  STILLPOINT_MODULES: 'its lib/modules/VERSION folder (only for disks and networks)',
  STILLPOINT_BUSYBOX: 'a static x86-64 busybox',
  STILLPOINT_GRUB: "the grub-x86_64-xen.bin of GRUB's Xen build",
};

/** Absolute paths of the files. */
export interface Guests {
  readonly dir: string;
  readonly vmlinuz: string;
  readonly vmlinux: string;
  readonly initramfs: string;
  readonly grub: string;
  /** Missing if the user has set another GRUB. */
  readonly grub32: string | undefined;
}

interface Ingredients {
  kernel: string;
  modules?: string;
  busybox: string;
  grub: string;
  grub32?: string;
}

/** A file that is named by an environment variable. */
function own(name: keyof typeof OWN): string | undefined {
  const file = process.env[name];
  if (file && !existsSync(file)) throw new NoPackages(`${name}: no file ${file}`);
  return file || undefined;
}

/** Where each part comes from: the environment first, else Debian. */
async function ingredients(): Promise<Ingredients> {
  let kernel = own('STILLPOINT_KERNEL');
  let modules = own('STILLPOINT_MODULES');
  if (kernel === undefined) {
    const root = await fetchDebian(['linux-image-amd64']);
    kernel = single(join(root, 'boot'), (f) => f.startsWith('vmlinuz-'));
    if (kernel === undefined)
      throw new NoPackages('the Debian package linux-image-amd64 has no kernel in it');
    modules ??= modulesIn(root);
  }
  const busybox = own('STILLPOINT_BUSYBOX') ?? (await debianBusybox());
  const grub = own('STILLPOINT_GRUB');
  if (grub !== undefined) return { kernel, modules, busybox, grub };
  const root = join(await fetchDebian(['grub-xen-host']), 'usr/lib/grub-xen');
  return {
    kernel,
    modules,
    busybox,
    grub: join(root, 'grub-x86_64-xen.bin'),
    grub32: join(root, 'grub-i386-xen.bin'),
  };
}

/** Returns the ELF kernel inside a bzImage (boot protocol: Linux, Documentation/arch/x86/boot.rst). */
export async function unpackKernel(file: string): Promise<Uint8Array> {
  const b = readFileSync(file);
  if (b.readUInt32BE(0) === 0x7f454c46) return b;
  const at = ((b[0x1f1] || 4) + 1) * 512 + b.readUInt32LE(0x248);
  const length = b.readUInt32LE(0x24c) - 4; // the last 4 bytes are the unpacked size
  if (b.readUInt32BE(at) === 0xfd377a58) return unxz(b.subarray(at, at + length));
  return unpackBzImage(b);
}

/** Makes what is missing, and prints that. Throws NoPackages, with advice, where the parts are not available. */
export async function ensureGuests(): Promise<Guests> {
  const dir = join(CACHE, 'guests');
  let from: Ingredients;
  try {
    from = await ingredients();
  } catch (e) {
    if (!(e instanceof NoPackages)) throw e;
    const list = Object.entries(OWN).map(([name, what]) => `  ${name}=FILE  ${what}`);
    throw new NoPackages(`${messageOf(e)}\nGive these files instead:\n${list.join('\n')}`);
  }
  // Named by their place in the cache, because several work trees may share one.
  const words = JSON.stringify(from).replaceAll(CACHE, '');
  await keepMade(dir, sumOfInputs(words, [...INITRAMFS_SOURCES, 'guests.ts']), async () => {
    console.log('stillpoint: making the test guests');
    if (from.modules) await writeModulesDep(from.modules);
    return {
      vmlinuz: readFileSync(from.kernel),
      vmlinux: await unpackKernel(from.kernel),
      'initramfs.cpio.gz': await makeInitramfs(from),
      'grub-x86_64-xen.bin': readFileSync(from.grub),
      ...(from.grub32 !== undefined && { 'grub-i386-xen.bin': readFileSync(from.grub32) }),
    };
  });
  return {
    dir,
    vmlinuz: join(dir, 'vmlinuz'),
    vmlinux: join(dir, 'vmlinux'),
    initramfs: join(dir, 'initramfs.cpio.gz'),
    grub: join(dir, 'grub-x86_64-xen.bin'),
    grub32: from.grub32 && join(dir, 'grub-i386-xen.bin'),
  };
}
