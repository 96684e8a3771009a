/**
 * A root file system that boots to a login: busybox, its init and getty, Debian's kernel, and an initramfs that loads
 * the kernel's drivers and switches to the disk. It is made without root by mke2fs -d.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { ensureGuests } from '../../scripts/lib/guests.js';
import { writeCpio } from '../../src/appliance/cpio.js';
import type { E2fsprogs } from './e2fsprogs.js';

export const INIT = `#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
modprobe xen-blkfront
modprobe ext4
while [ ! -e /dev/xvda ]; do sleep 0.1; done
mount -t ext4 /dev/xvda /mnt
mount --move /dev /mnt/dev
umount /proc
exec switch_root /mnt /sbin/init
`;
const INITTAB = `::sysinit:/bin/mount -t proc proc /proc
::sysinit:/bin/mount -t sysfs sys /sys
hvc0::respawn:/sbin/getty -L 0 hvc0 vt100
::ctrlaltdel:/sbin/poweroff
::shutdown:/bin/umount -r /
`;

/** Makes `image` in the folder `dir`, with a size of 96 MiB. */
export async function makeRootFileSystem(tools: E2fsprogs, dir: string, image: string): Promise<void> {
  const guests = await ensureGuests();
  const busybox = join(await fetchDebian(['busybox-static']), 'bin/busybox');
  const root = join(dir, 'root');
  for (const name of ['bin', 'sbin', 'etc', 'proc', 'sys', 'dev', 'root', 'tmp', 'boot'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(busybox, join(root, 'bin/busybox'));
  for (const name of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n'))
    if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
  for (const name of ['init', 'getty', 'poweroff']) symlinkSync('../bin/busybox', join(root, 'sbin', name));
  writeFileSync(join(root, 'etc/inittab'), INITTAB);
  writeFileSync(join(root, 'etc/passwd'), 'root::0:0:root:/root:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'etc/hostname'), 'disk\n');
  copyFileSync(guests.vmlinuz, join(root, 'boot/vmlinuz'));
  const init = gzipSync(writeCpio([{ path: 'init', mode: 0o755, data: INIT }]));
  writeFileSync(join(root, 'boot/initrd'), Buffer.concat([readFileSync(guests.initramfs), init]));
  writeFileSync(image, '');
  truncateSync(image, 96 * 1024 * 1024);
  tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'root_owner=0:0', '-d', root, image);
}
