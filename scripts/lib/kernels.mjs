// Guests of any Debian kernel: its vmlinuz, and an initramfs of busybox with that kernel's own block and network drivers,
// in .cache/kernels/SUITE_PACKAGE/ (not in git). The packages are large: only what the guest needs of them is kept.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CACHE, fetchDebian, NoPackages, packagesKey, unpackDebian } from './debian.mjs';
import { makeInitramfs } from './initramfs.mjs';
import { writeModulesDep } from './modules.mjs';

const KERNELS = join(CACHE, 'kernels');
/** What goes into an initramfs beside the packages: where one of these changes, the guest is made again. */
const INPUTS = ['cpio.mjs', 'initramfs.mjs', 'init.sh', 'modules.mjs', 'kernels.mjs'];

const single = (dir, test) => {
  const name = existsSync(dir) ? readdirSync(dir).find(test) : undefined;
  return name && join(dir, name);
};

async function busybox() {
  const root = await fetchDebian(['busybox-static']);
  return ['usr/bin/busybox', 'bin/busybox'].map((f) => join(root, f)).find(existsSync);
}

/**
 * Makes what is missing. Throws NoPackages where the packages cannot be had.
 * @param {{ suite?: string, package: string }} of a suite ("bullseye", "bookworm", "trixie", "sid"; without it the
 *   machine's own) and a package of it: linux-image-amd64, linux-image-cloud-amd64, linux-image-rt-amd64, or one version
 * @returns {Promise<{ dir: string, vmlinuz: string, initramfs: string, release: string }>} absolute paths, and the
 *   kernel's own name for its version (uname -r)
 */
export async function ensureKernel({ suite, package: name }) {
  const dir = join(KERNELS, packagesKey([name], { suite }));
  const hash = createHash('sha256');
  for (const f of INPUTS) hash.update(readFileSync(fileURLToPath(new URL(f, import.meta.url))));
  const made = hash.digest('hex');
  const result = () => ({
    dir,
    vmlinuz: join(dir, 'vmlinuz'),
    initramfs: join(dir, 'initramfs.cpio.gz'),
    release: readFileSync(join(dir, 'release'), 'utf8'),
  });
  if (existsSync(join(dir, 'made')) && readFileSync(join(dir, 'made'), 'utf8') === made) return result();
  mkdirSync(dir, { recursive: true });
  const temporary = mkdtempSync(join(KERNELS, 'new-'));
  try {
    const root = unpackDebian([name], temporary, { suite });
    const all = ['lib/modules', 'usr/lib/modules'].map((d) => join(root, d)).find(existsSync);
    const modules = all && single(all, (f) => existsSync(join(all, f, 'kernel')));
    // From Debian 14 on the kernel lies beside its modules.
    const kernel =
      single(join(root, 'boot'), (f) => f.startsWith('vmlinuz-')) ??
      (modules && single(modules, (f) => f === 'vmlinuz'));
    if (kernel === undefined) throw new NoPackages(`the Debian package ${name} has no kernel in it`);
    if (modules) await writeModulesDep(modules);
    const files = {
      vmlinuz: readFileSync(kernel),
      'initramfs.cpio.gz': await makeInitramfs({ busybox: await busybox(), modules }),
      release: modules ? basename(modules) : basename(kernel).replace('vmlinuz-', ''),
      made,
    };
    // `made` comes last, and each file appears whole: another process never sees half a guest.
    for (const [file, bytes] of Object.entries(files)) {
      writeFileSync(join(temporary, file), bytes);
      renameSync(join(temporary, file), join(dir, file));
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return result();
}
