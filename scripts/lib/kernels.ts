// Guests with any Debian kernel: its vmlinuz, and an initramfs of busybox with that kernel's own block and network
// drivers, in .cache/kernels/SUITE_PACKAGE/ (not in git). The packages are large; only what the guest needs of them is
// kept.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CACHE, fetchDebian, NoPackages, packagesKey, unpackDebian } from './debian.js';
import { makeInitramfs } from './initramfs.js';
import { INITRAMFS_SOURCES, keepMade, single, sumOfInputs } from './made.js';
import { writeModulesDep } from './modules.js';

/** Absolute paths of a kernel and its initramfs. */
export interface KernelGuest {
  readonly dir: string;
  readonly vmlinuz: string;
  readonly initramfs: string;
  /** The kernel's own name for its version (uname -r). */
  readonly release: string;
}

/** A static busybox from Debian. */
export async function debianBusybox(): Promise<string> {
  const root = await fetchDebian(['busybox-static']);
  const found = ['usr/bin/busybox', 'bin/busybox'].map((f) => join(root, f)).find(existsSync);
  if (found === undefined) throw new NoPackages('the Debian package busybox-static has no busybox in it');
  return found;
}

/** Returns the folder lib/modules/VERSION in a package that was unpacked at `root`. */
export function modulesIn(root: string): string | undefined {
  const all = ['lib/modules', 'usr/lib/modules'].map((d) => join(root, d)).find(existsSync);
  return all && single(all, (f) => existsSync(join(all, f, 'kernel')));
}

/**
 * Makes what is missing. Throws NoPackages where the packages are not available. `suite` is "bullseye", "bookworm",
 * "trixie" or "sid", or the machine's own if it is not given. `package` is linux-image-amd64, linux-image-cloud-amd64,
 * linux-image-rt-amd64, or a certain version.
 */
export async function ensureKernel({
  suite,
  package: name,
}: {
  suite?: string;
  package: string;
}): Promise<KernelGuest> {
  const dir = join(CACHE, 'kernels', packagesKey([name], { suite }));
  await keepMade(dir, sumOfInputs('', [...INITRAMFS_SOURCES, 'kernels.ts']), async (temporary) => {
    const root = unpackDebian([name], temporary, { suite });
    const modules = modulesIn(root);
    // Since Debian 14 the kernel is in the folder of its modules.
    const kernel =
      single(join(root, 'boot'), (f) => f.startsWith('vmlinuz-')) ??
      (modules && single(modules, (f) => f === 'vmlinuz'));
    if (kernel === undefined) throw new NoPackages(`the Debian package ${name} has no kernel in it`);
    if (modules) await writeModulesDep(modules);
    return {
      vmlinuz: readFileSync(kernel),
      'initramfs.cpio.gz': await makeInitramfs({ busybox: await debianBusybox(), modules }),
      release: modules ? basename(modules) : basename(kernel).replace('vmlinuz-', ''),
    };
  });
  return {
    dir,
    vmlinuz: join(dir, 'vmlinuz'),
    initramfs: join(dir, 'initramfs.cpio.gz'),
    release: readFileSync(join(dir, 'release'), 'utf8'),
  };
}
