// npm run soak -- bootloader [--only debian|kernels]: guests that boot from their own disks (docs/disks.md), on disks as others make them. Debian 12 by
// mmdebstrap, with the menu that its update-grub writes, makes further disks of itself in the guest: with /boot on a
// partition of its own, on LVM, on xfs, and with a menu of GRUB legacy. Each boots to a login, with what its disk is; from
// power-on to the kernel's first line it takes at most 5 s of processor time. And kernels in every packing that Debian uses.
// The first needs root, mmdebstrap, and apt with its own sources.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGrub } from '../scripts/lib/grub.js';
import { ensureKernel } from '../scripts/lib/kernels.js';
import { single } from '../scripts/lib/made.js';
import { E2fsprogs } from '../test/disk/e2fsprogs.js';
import { TwoHosts, until } from '../test/migration/hosts.js';
import { type SoakCount, soaked } from './lib/soaked.js';

const { values } = parseArgs({ options: { only: { type: 'string' } } });
const MIB = 1 << 20;
const LIMIT_S = 5;
const KERNELS: readonly (readonly [suite: string, name: string])[] = [
  ['bullseye', 'linux-image-amd64'],
  ['bookworm', 'linux-image-amd64'],
  ['bookworm', 'linux-image-cloud-amd64'],
  ['trixie', 'linux-image-amd64'],
  ['trixie', 'linux-image-cloud-amd64'],
  ['sid', 'linux-image-amd64'],
];

const began = performance.now();
const say = (text: string): void =>
  console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${text}`);
const properties = new Map<string, SoakCount>();
async function check(property: string, where: string, run: () => Promise<void>): Promise<boolean> {
  const row = properties.get(property) ?? { property, cases: 0, failures: 0 };
  properties.set(property, row);
  row.cases++;
  try {
    await run();
    return true;
  } catch (error) {
    row.failures++;
    console.log(`${where}: ${property}: ${messageOf(error)}`);
    return false;
  }
}

await ensureGrub();
const tools = await E2fsprogs.fetch();
const hosts = await TwoHosts.open(17_780, { runner: undefined });
const { a } = hosts;
const image = (name: string, mib: number): string => {
  const path = join(hosts.root, name);
  writeFileSync(path, '');
  truncateSync(path, mib * MIB);
  return path;
};
const create = (name: string, lines: string): Promise<unknown> =>
  a.ask('create', { config: `name = "${name}"\n${lines}\n`, file: `${name}.cfg`, directory: hosts.root });
const gone = (name: string): Promise<unknown> =>
  until(`${name} has ended`, async () => ((await a.list()).length === 0 ? true : undefined), 300);

/** Ticks of processor time that a process has used, of which there are 100 a second. */
function ticks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/**
 * Boots from a disk. Resolves with the seconds to the kernel's first line, and with those of processor time of the guest's
 * process: on a busy machine only these say something.
 */
async function boot(name: string, disk: string, more: string): Promise<[wall: number, processor: number]> {
  const from = performance.now();
  await create(
    name,
    `bootloader = "pygrub"\nbootloader_args = "-q"\nmemory = 384\ndisk = ['${disk},raw,xvda,w']\n${more}`,
  );
  await a.consoleOf(name, '', /Linux version/, 120);
  return [(performance.now() - from) / 1000, ticks(a.pids()[0]) / 100];
}
async function inTime(name: string, disk: string, more: string): Promise<void> {
  let wall = Number.POSITIVE_INFINITY;
  let processor = Number.POSITIVE_INFINITY;
  await check('boots from its disk by its menu', name, async () => {
    [wall, processor] = await boot(name, disk, more);
  });
  say(
    `${name}: ${wall.toFixed(1)} s from power-on to the kernel's first line, ${processor.toFixed(1)} s of processor time`,
  );
  await check(`the kernel's first line comes within ${LIMIT_S} s of processor time`, name, async () => {
    if (processor > LIMIT_S) throw new Error(`it took ${processor.toFixed(1)} s`);
  });
}

for (const [suite, name] of values.only === 'debian' ? [] : KERNELS) {
  const kernel = await ensureKernel({ suite, package: name });
  const root = join(hosts.root, `${suite}-${name}`);
  mkdirSync(join(root, 'boot/grub'), { recursive: true });
  copyFileSync(kernel.vmlinuz, join(root, 'boot/vmlinuz'));
  copyFileSync(kernel.initramfs, join(root, 'boot/initrd'));
  writeFileSync(
    join(root, 'boot/grub/grub.cfg'),
    'menuentry x {\n linux /boot/vmlinuz console=hvc0 rdinit=/init\n initrd /boot/initrd\n}\n',
  );
  const disk = image(`${suite}-${name}.img`, 64);
  tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, disk);
  await inTime(`${suite}-${name}`, disk, '');
  await check('comes to its shell', name, async () => {
    await a.consoleOf(`${suite}-${name}`, '', /guest# /, 300);
  });
  await hosts.clear();
}

/** How a disk is made in the running guest: `dev` is its device, and what is mounted at /mnt becomes its root. */
interface Variant {
  readonly name: string;
  readonly make: (dev: string) => string;
  readonly menu?: (dev: string) => string;
  /** What the booted guest says of its root, by findmnt. */
  readonly root: RegExp;
}
const MENU = 'chroot /mnt update-grub';
const VARIANTS: readonly Variant[] = [
  {
    name: 'boot-partition',
    make: (d) =>
      `printf ',200M,L\\n,,L\\n' | sfdisk -q ${d} && udevadm settle && mkfs.ext4 -q ${d}1 && mkfs.ext4 -q ${d}2 && mount ${d}2 /mnt && mkdir /mnt/boot && mount ${d}1 /mnt/boot`,
    root: /xvda2 ext4/,
  },
  {
    name: 'lvm',
    make: (d) =>
      `pvcreate -q ${d} && vgcreate -q vg ${d} && lvcreate -q -y -n root -l 100%FREE vg && mkfs.ext4 -q /dev/vg/root && mount /dev/vg/root /mnt`,
    root: /vg-root ext4/,
  },
  {
    name: 'xfs',
    make: (d) =>
      `printf 'label: gpt\\n,,L\\n' | sfdisk -q ${d} && udevadm settle && mkfs.xfs -q ${d}1 && mount ${d}1 /mnt`,
    root: /xvda1 xfs/,
  },
  {
    name: 'menu-lst',
    make: (d) =>
      `printf ',,L\\n' | sfdisk -q ${d} && udevadm settle && mkfs.ext4 -q ${d}1 && mount ${d}1 /mnt`,
    menu: () =>
      'rm -rf /mnt/boot/grub/grub.cfg; printf "default 0\\ntimeout 5\\n\\ntitle Debian\\nroot (hd0,0)\\nkernel /boot/%s root=/dev/xvda1 ro console=hvc0\\ninitrd /boot/%s\\n" $(cd /mnt/boot; ls vmlinuz-*) $(cd /mnt/boot; ls initrd.img-*) >/mnt/boot/grub/menu.lst',
    root: /xvda1 ext4/,
  },
];

async function debian(): Promise<void> {
  const root = join(hosts.root, 'debian');
  const lists = [
    '/etc/apt/sources.list',
    ...readdirSync('/etc/apt/sources.list.d').map((f) => `/etc/apt/sources.list.d/${f}`),
  ];
  const suite = /VERSION_CODENAME=(\w+)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
  const packages =
    'systemd-sysv,udev,linux-image-amd64,initramfs-tools,zstd,lvm2,xfsprogs,e2fsprogs,fdisk,grub2-common';
  execFileSync(
    'mmdebstrap',
    [
      '--quiet',
      '--mode=root',
      '--variant=minbase',
      `--include=${packages}`,
      '--customize-hook=chroot "$1" passwd -d root',
      '--customize-hook=echo debian >"$1/etc/hostname"',
      '--customize-hook=echo "/dev/xvda / ext4 rw 0 1" >"$1/etc/fstab"',
      '--customize-hook=mkdir -p "$1/boot/grub" "$1/etc/default/grub.d"',
      `--customize-hook=echo 'GRUB_CMDLINE_LINUX_DEFAULT="console=hvc0"' >"$1/etc/default/grub"`,
      // What is copied from disk to disk need not be large. The drivers of disks are in the initial RAM disk.
      '--customize-hook=rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/usr/share/i18n "$1"/var/cache/apt "$1"/var/lib/apt/lists/* "$1"/lib/modules/*/kernel/[!df]* "$1"/lib/modules/*/kernel/drivers/[!m]* "$1"/lib/modules/*/kernel/drivers/m[!d]*',
      suite,
      root,
      ...lists.filter((file) => /\.(list|sources)$/.test(file) && existsSync(file)),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const first = image('whole.img', 1536);
  tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, first);
  say('a Debian is made');
  const targets = VARIANTS.map(({ name }, i) => ({
    disk: image(`${name}.img`, 1536),
    dev: `xvd${'bcde'[i]}`,
  }));
  const kernel = single(join(root, 'boot'), (name) => name.startsWith('vmlinuz-'));
  const initrd = single(join(root, 'boot'), (name) => name.startsWith('initrd.img-'));
  const more = targets.map(({ disk, dev }) => `, '${disk},raw,${dev},w'`).join('');
  await create(
    'maker',
    `kernel = "${kernel}"\nramdisk = "${initrd}"\nextra = "console=hvc0 quiet root=/dev/xvda"\nmemory = 768\nvcpus = 2\ndisk = ['${first},raw,xvda,w'${more}]`,
  );
  await a.consoleOf('maker', '', /debian login: /, 600);
  await a.consoleOf('maker', 'root\n', /# $/, 100);
  let sequence = 0;
  const command = async (line: string): Promise<void> => {
    const n = ++sequence;
    const text = await a.consoleOf(
      'maker',
      `${line}; echo "sta""tus${n}=$?"\n`,
      new RegExp(`status${n}=\\d+`),
      900,
    );
    if (!text.includes(`status${n}=0`)) throw new Error(`${line}: ${text.slice(-2000)}`);
  };
  await command('dmesg -n 1; update-grub');
  for (const [i, { name, make, menu }] of VARIANTS.entries()) {
    const dev = `/dev/${targets[i].dev}`;
    await command(
      `${make(dev)} && mkdir -p /mnt/proc /mnt/sys /mnt/dev /mnt/run /mnt/tmp && cp -ax /. /mnt/`,
    );
    // The disk is the first one where it boots, and the menu is made as it would be there.
    await command(
      `sed -i '/xvda/d' /mnt/etc/fstab; for m in dev proc sys; do mount --bind /$m /mnt/$m; done; ${menu?.(dev) ?? MENU}; sed -i 's/xvd[b-e]/xvda/' /mnt/boot/grub/grub.cfg; umount -R /mnt; sync`,
    );
    say(`the disk ${name} is made`);
  }
  await a.consoleOf('maker', 'systemctl poweroff\n', /poweroff/, 100);
  await gone('maker');
  const all = [{ name: 'no-partition-table', disk: first, root: /xvda ext4/ }].concat(
    VARIANTS.map(({ name, root: said }, i) => ({ name, disk: targets[i].disk, root: said })),
  );
  for (const { name, disk, root: said } of all) {
    await inTime(name, disk, '');
    await check('comes to a login, with the root that its menu names', name, async () => {
      await a.consoleOf(name, '', /debian login: /, 600);
      await a.consoleOf(name, 'root\n', /# $/, 100);
      await a.consoleOf(name, 'findmnt -n -o SOURCE,FSTYPE /\n', said, 100);
    });
    await a.consoleOf(name, 'systemctl poweroff\n', /poweroff/, 100).catch(() => undefined);
    await gone(name).catch(() => hosts.clear());
  }
}

if (values.only === 'kernels') say('without Debian');
else if (process.getuid?.() !== 0 || spawnSync('mmdebstrap', ['--version']).error !== undefined)
  console.error('soak bootloader: without Debian, for which root and mmdebstrap are needed');
else await check('disks are made as others make them', 'Debian', debian);
await hosts.close();
soaked([...properties.values()]);
