// npm run soak -- debian [MOVES]: a Debian system made by mmdebstrap boots from its disk to a login, with its own init,
// on one of two unlike hosts. It is moved between them (5 times) while it reads all of its files, and shuts down. What
// it read must be right, and its file system clean. This needs root, mmdebstrap, and apt with its own sources.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { writeCpio } from '../src/appliance/cpio.js';
import { E2fsprogs } from '../test/disk/e2fsprogs.js';
import { INIT } from '../test/disk/root-file-system.js';
import { moveToAndFro } from '../test/e2e/moving-guests.js';
import { TwoHosts, until } from '../test/migration/hosts.js';
import { soaked } from './lib/soaked.js';

const moves = Number(process.argv[2] ?? 5);
if (process.getuid?.() !== 0 || spawnSync('mmdebstrap', ['--version']).error !== undefined) {
  console.error('soak debian: root and mmdebstrap are needed');
  // The run of all soaks leaves it out then, and counts no case.
  if (process.env.STILLPOINT_SOAK_TABLE !== undefined)
    soaked([{ property: 'Debian (left out: root and mmdebstrap are needed)', cases: 0, failures: 0 }]);
  process.exit(2);
}
const MIB = 1 << 20;
const began = performance.now();
const say = (text: string): void =>
  console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${text}`);

const guests = await ensureGuests();
const tools = await E2fsprogs.fetch();
const hosts = await TwoHosts.open(17_720, { runner: undefined });
const root = join(hosts.root, 'debian');
const image = join(hosts.root, 'debian.img');
const lists = [
  '/etc/apt/sources.list',
  ...readdirSync('/etc/apt/sources.list.d').map((f) => `/etc/apt/sources.list.d/${f}`),
];
const suite = /VERSION_CODENAME=(\w+)/.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
execFileSync('mmdebstrap', [
  '--quiet',
  '--mode=root',
  '--variant=minbase',
  '--include=systemd-sysv,udev',
  '--customize-hook=chroot "$1" passwd -d root',
  '--customize-hook=echo debian >"$1/etc/hostname"',
  '--customize-hook=echo "/dev/xvda / ext4 rw 0 1" >"$1/etc/fstab"',
  suite,
  root,
  ...lists.filter((file) => /\.(list|sources)$/.test(file) && existsSync(file)),
]);
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'usr/bin/dpkg')))
  .digest('hex');
writeFileSync(image, '');
truncateSync(image, 768 * MIB);
tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', root, image);
const init = gzipSync(writeCpio([{ path: 'init', mode: 0o755, data: INIT }]));
writeFileSync(join(hosts.root, 'initrd'), Buffer.concat([readFileSync(guests.initramfs), init]));
say('a Debian is made');

const { a } = hosts;
const config = `name = "debian"\nkernel = "${guests.vmlinuz}"\nramdisk = "${join(hosts.root, 'initrd')}"
extra = "console=hvc0 quiet"\nmemory = 384\nvcpus = 2\ndisk = ['${image},raw,xvda,w']\n`;
await a.ask('create', { config, file: 'debian.cfg', directory: hosts.root });
await a.consoleOf('debian', '', /debian login: /, 1500);
say('it asks for a login');
await a.consoleOf('debian', 'root\n', /# $/, 300);
const sums =
  'find /usr -xdev -type f -print0 | sort -z | xargs -0 cat | sha256sum; sha256sum /usr/bin/dpkg; echo do""ne\n';
await a.consoleOf('debian', `dmesg -n 1; ${sums}`, /sha256sum/, 60);
const { at } = await moveToAndFro(hosts, 'debian', moves);
const text = await at.consoleOf('debian', '', /^done/m, 1500);
say(`moved ${moves} times`);
const right = text.includes(wanted);
await at.consoleOf('debian', 'systemctl is-system-running; systemctl poweroff\n', /poweroff/, 100);
await until('it has shut down', async () => ((await at.list()).length === 0 ? true : undefined), 600);
say('it has shut down');
let clean = true;
try {
  tools.run('e2fsck', '-fn', image);
} catch (error) {
  clean = false;
  console.log(messageOf(error));
}
await hosts.close();
soaked([
  {
    property: 'Debian boots from its disk, reads it right through all moves, and shuts down',
    cases: moves,
    failures: right ? 0 : 1,
  },
  { property: 'its file system is clean after that', cases: 1, failures: clean ? 0 : 1 },
]);
