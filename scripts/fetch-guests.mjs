// Makes the real guests that tests, benches and the demo run, in .cache/guests/ (not in git):
//   vmlinuz                Debian's current amd64 kernel (bzImage)
//   vmlinux                the same, unpacked (ELF)
//   initramfs.cpio.gz      busybox, the Xen drivers, scripts/lib/init.sh
//   grub-x86_64-xen.bin    GRUB as a 64-bit PV kernel;  grub-i386-xen.bin: as a 32-bit one (only read, never run)
// `node scripts/fetch-guests.mjs` does it and says what it did; nothing is done twice.
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
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CACHE, fetchDebian, NoPackages } from './lib/debian.mjs';
import { makeInitramfs } from './lib/initramfs.mjs';
import { writeModulesDep } from './lib/modules.mjs';
import { unxz } from './lib/xz.mjs';

export { fetchDebian, NoPackages };

/** Files of one's own instead of Debian's. */
const OWN = {
  STILLPOINT_KERNEL: 'a bzImage of a Linux with CONFIG_XEN_PV',
  STILLPOINT_MODULES: 'its lib/modules/VERSION folder (only for disks and networks)',
  STILLPOINT_BUSYBOX: 'a static x86-64 busybox',
  STILLPOINT_GRUB: "the grub-x86_64-xen.bin of GRUB's Xen build",
};

const INPUTS = ['lib/cpio.mjs', 'lib/initramfs.mjs', 'lib/init.sh', 'lib/modules.mjs', 'fetch-guests.mjs'];

const single = (dir, test) => {
  const name = existsSync(dir) ? readdirSync(dir).find(test) : undefined;
  return name && join(dir, name);
};

/** Where each ingredient comes from: the environment first, else Debian. */
async function ingredients() {
  const env = (name) => {
    const file = process.env[name];
    if (file && !existsSync(file)) throw new NoPackages(`${name}: no file ${file}`);
    return file;
  };
  const from = {
    kernel: env('STILLPOINT_KERNEL'),
    modules: env('STILLPOINT_MODULES'),
    busybox: env('STILLPOINT_BUSYBOX'),
    grub: env('STILLPOINT_GRUB'),
  };
  if (!from.kernel) {
    const root = await fetchDebian(['linux-image-amd64']);
    from.kernel = single(join(root, 'boot'), (f) => f.startsWith('vmlinuz-'));
    const modules = ['lib/modules', 'usr/lib/modules'].map((d) => join(root, d)).find(existsSync);
    from.modules ??= single(modules, (f) => existsSync(join(modules, f, 'kernel')));
  }
  if (!from.busybox) {
    const root = await fetchDebian(['busybox-static']);
    from.busybox = ['usr/bin/busybox', 'bin/busybox'].map((f) => join(root, f)).find(existsSync);
  }
  if (!from.grub) {
    const root = await fetchDebian(['grub-xen-host']);
    from.grub = join(root, 'usr/lib/grub-xen/grub-x86_64-xen.bin');
    from.grub32 = join(root, 'usr/lib/grub-xen/grub-i386-xen.bin');
  }
  return from;
}

/** The ELF kernel inside a bzImage (boot protocol: Linux, Documentation/arch/x86/boot.rst). */
async function unpackKernel(file) {
  const b = readFileSync(file);
  if (b.readUInt32BE(0) === 0x7f454c46) return b;
  const at = ((b[0x1f1] || 4) + 1) * 512 + b.readUInt32LE(0x248);
  const length = b.readUInt32LE(0x24c) - 4; // the last 4 bytes are the unpacked size
  if (b.readUInt32BE(at) === 0xfd377a58) return unxz(b.subarray(at, at + length));
  const built = new URL('../dist/guest/bzimage.js', import.meta.url);
  if (!existsSync(built)) throw new NoPackages(`to unpack ${file}, run \`npm run build\` first`);
  return (await import(built.href)).unpackKernel(b);
}

/**
 * Makes what is missing and says so. Throws NoPackages, with advice, where the ingredients cannot be had.
 * @returns {Promise<{ dir: string, vmlinuz: string, vmlinux: string, initramfs: string, grub: string,
 *   grub32: string | undefined }>} absolute paths
 */
export async function ensureGuests() {
  const dir = join(CACHE, 'guests');
  const at = (name) => join(dir, name);
  let from;
  try {
    from = await ingredients();
  } catch (e) {
    if (!(e instanceof NoPackages)) throw e;
    const list = Object.entries(OWN).map(([name, what]) => `  ${name}=FILE  ${what}`);
    throw new NoPackages(`${e.message}\nGive these files instead:\n${list.join('\n')}`);
  }
  // By their place in the cache: several work trees may share one.
  const hash = createHash('sha256').update(JSON.stringify(from).replaceAll(CACHE, ''));
  for (const f of INPUTS) hash.update(readFileSync(fileURLToPath(new URL(f, import.meta.url))));
  const made = hash.digest('hex');
  const result = {
    dir,
    vmlinuz: at('vmlinuz'),
    vmlinux: at('vmlinux'),
    initramfs: at('initramfs.cpio.gz'),
    grub: at('grub-x86_64-xen.bin'),
    grub32: from.grub32 && at('grub-i386-xen.bin'),
  };
  if (existsSync(at('made')) && readFileSync(at('made'), 'utf8') === made) return result;
  console.log('stillpoint: making the test guests');
  mkdirSync(dir, { recursive: true });
  const temporary = mkdtempSync(join(CACHE, 'guests-'));
  try {
    if (from.modules) await writeModulesDep(from.modules);
    const files = {
      vmlinuz: readFileSync(from.kernel),
      vmlinux: await unpackKernel(from.kernel),
      'initramfs.cpio.gz': await makeInitramfs(from),
      'grub-x86_64-xen.bin': readFileSync(from.grub),
      ...(from.grub32 && { 'grub-i386-xen.bin': readFileSync(from.grub32) }),
      made,
    };
    // `made` comes last, and each file appears whole: another process never sees half a guest.
    for (const [name, bytes] of Object.entries(files)) {
      writeFileSync(join(temporary, name), bytes);
      renameSync(join(temporary, name), at(name));
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    for (const [name, file] of Object.entries(await ensureGuests())) console.log(`${name}: ${file}`);
  } catch (e) {
    if (!(e instanceof NoPackages)) throw e;
    console.error(`stillpoint: ${e.message}`);
    process.exitCode = 1;
  }
}
