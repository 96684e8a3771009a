// npm run bench -- boot-loader [--json]: Debian's kernel (8 MB, packed with xz) from the guest's own disk: seconds from the start
// of `stillpoint run` to the kernel's first line, interleaved with the same kernel as a file of the host, and with
// Debian's own build of GRUB (grub-xen-host), which unpacks the kernel in the guest.
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureGrub } from '../scripts/lib/grub.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { inRoot } from '../scripts/lib/root.js';
import { E2fsprogs } from '../test/disk/e2fsprogs.js';
import { interleave, report } from './harness.js';

const ROUNDS = 3;
const guests = await ensureGuests();
const { image } = await ensureGrub();
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-bench-'));

/** Seconds to the first line of Linux. */
function firstLine(lines: string, bootLoader: string): Promise<number> {
  const file = join(dir, 'guest.cfg');
  const disk = join(dir, 'disk.img');
  writeFileSync(file, `name = "bench"\nmemory = 256\ndisk = ['${disk},raw,xvda,w']\n${lines}\n`);
  return new Promise((done, fail) => {
    const start = performance.now();
    const child = spawn(process.execPath, [inRoot('dist/cli/main.js'), 'run', file], {
      env: { ...process.env, STILLPOINT_BOOT_LOADER: bootLoader },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    let text = '';
    child.stdout.on('data', (bytes) => {
      text += bytes.toString('latin1');
      if (!text.includes('Linux version')) return;
      child.kill('SIGKILL');
      done((performance.now() - start) / 1000);
    });
    child.on('close', () => fail(new Error(`it ended before the kernel's first line:\n${text}`)));
  });
}

try {
  const tools = await E2fsprogs.fetch();
  const root = join(dir, 'root');
  mkdirSync(join(root, 'boot/grub'), { recursive: true });
  copyFileSync(guests.vmlinuz, join(root, 'boot/vmlinuz'));
  copyFileSync(guests.initramfs, join(root, 'boot/initrd'));
  const entry = 'menuentry x {\n linux /boot/vmlinuz console=hvc0\n initrd /boot/initrd\n}\n';
  writeFileSync(join(root, 'boot/grub/grub.cfg'), `set timeout=0\n${entry}`);
  writeFileSync(join(dir, 'disk.img'), '');
  truncateSync(join(dir, 'disk.img'), 64 << 20);
  tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, join(dir, 'disk.img'));

  const direct = `kernel = "${guests.vmlinuz}"\nramdisk = "${guests.initramfs}"\nextra = "console=hvc0"`;
  const times = await interleave(
    {
      disk: () => firstLine('bootloader = "pygrub"', image),
      file: () => firstLine(direct, image),
      debians: () => firstLine('bootloader = "pygrub"', guests.grub),
    },
    ROUNDS,
  );
  const all = (name: keyof typeof times) => times[name].all.map((t) => t.toFixed(2)).join(' ');
  report('boot-loader', "from its disk to the kernel's first line", times.disk.median, 's', {
    'of each round': all('disk'),
  });
  report('boot-loader', 'the same kernel as a file of the host', times.file.median, 's', {
    'of each round': all('file'),
  });
  report('boot-loader', "from its disk with Debian's build of GRUB", times.debians.median, 's', {
    'of each round': all('debians'),
  });
} finally {
  rmSync(dir, { recursive: true });
}
