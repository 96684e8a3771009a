import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { E2fsprogs } from './e2fsprogs.js';
import { LinuxGuest } from './linux-guest.js';
import { WRITER } from './writer.js';

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-disk-'));
afterAll(() => rmSync(dir, { recursive: true }));
/** The number of moves of the writing guest; `npm run soak -- disk` makes more. */
const MOVES = Number(process.env['STILLPOINT_DISK_MOVES'] ?? 6);
const HAS_QEMU = spawnSync('qemu-nbd', ['--version']).status === 0;

const image = (name: string, mib: number): string => {
  const path = join(dir, name);
  writeFileSync(path, '');
  truncateSync(path, mib * 1024 * 1024);
  return path;
};

/** True if mounts and loop devices can be made here. */
const HAS_MOUNT = process.getuid?.() === 0 && spawnSync('losetup', ['--find']).status === 0;
const MIB = 1 << 20;
const wait = (dev: string): string => `while [ ! -e /dev/${dev} ]; do sleep 0.1; done`;

/** A disk whose file cannot grow on its host: writes fail until there is space again. */
async function meetsAFullHost(linux: LinuxGuest): Promise<void> {
  const folder = join(dir, 'full');
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]);
  try {
    const file = image('full/disk.img', 8);
    await linux.plug(`${file},raw,xvdc,w`);
    const dd = 'dd if=/dev/zero of=/dev/xvdc bs=64k count=32 oflag=direct';
    expect(await linux.sh(`${wait('xvdc')}; ${dd}; echo status=$?`)).toMatch(/I\/O error[\s\S]*status=1/);
    expect(linux.log.join('\n')).toMatch(new RegExp(`disk ${file}: write of \\d+ sectors at \\d+: ENOSPC`));
    expect(await linux.sh('dd if=/dev/xvdc of=/dev/null bs=64k count=32 iflag=direct 2>&1')).toContain(
      '32+0',
    );
    execFileSync('mount', ['-o', 'remount,size=16m', folder]);
    await linux.sh(dd);
    expect(await linux.unplug(51744, 120_000)).toBe(true);
  } finally {
    execFileSync('umount', ['--lazy', folder]);
  }
}

/** A block device of the host; its discards reach the file behind it. */
async function discardsOnADevice(linux: LinuxGuest): Promise<void> {
  const file = join(dir, 'device.img');
  writeFileSync(file, Buffer.alloc(4 * MIB, 1));
  const loop = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
  try {
    const before = statSync(file).blocks;
    await linux.plug(`${loop},raw,xvdd,w`);
    await linux.sh(`${wait('xvdd')}; blkdiscard -o ${MIB} -l ${2 * MIB} /dev/xvdd`);
    expect((before - statSync(file).blocks) * 512).toBe(2 * MIB);
    expect(await linux.unplug(51760, 120_000)).toBe(true);
  } finally {
    execFileSync('losetup', ['--detach', loop]);
  }
}

describe("Debian's kernel on our disks", () => {
  it('makes, mounts and checks ext4 on raw and qcow2 disks, plugged in while it runs, written and verified during moves', async () => {
    const tools = await E2fsprogs.fetch();
    const raw = image('raw.img', 64);
    const qcow2 = join(dir, 'disk.qcow2');
    const second = HAS_QEMU ? `format=qcow2,vdev=xvdb,target=${qcow2}` : `${image('two.img', 64)},raw,xvdb,w`;
    if (HAS_QEMU) execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', qcow2, '64M']);
    // The guest has two processors, so each disk has two rings.
    const linux = await LinuxGuest.boot(tools, [`${raw},raw,xvda,w`], 2);
    try {
      await linux.plug(second);
      await linux.sh(`${wait('xvdb')}; mkdir -p /a /b`);
      expect((await linux.sh('ls /sys/block/xvda/mq')).trim().split(/\s+/)).toEqual(['0', '1']);
      for (const [dev, at] of ['xvda a', 'xvdb b'].map((x) => x.split(' ')))
        await linux.sh(`/sbin/mke2fs -q -t ext4 /dev/${dev} && mount /dev/${dev} /${at}`);
      await linux.sh(`${WRITER.replaceAll('\n', ' ')}; w /a 1 & w /b 2 & true`);
      const before = linux.guest.devices.list().map((d) => d.bus.backState);
      for (let i = 0; i < MOVES; i++) {
        await new Promise((done) => setTimeout(done, 150 + 100 * (i % 4)));
        await linux.move();
      }
      expect(linux.guest.devices.list().map((d) => d.bus.backState)).toEqual(before);
      for (const n of [1, 2])
        await linux.sh(`while ! [ "$(cat /tmp/n${n})" -ge 4 ] 2>/dev/null; do sleep 0.1; done`);
      await linux.sh('touch /tmp/stop; wait');
      const wrote = await linux.sh('cat /tmp/r1 /tmp/r2');
      const rounds = [...wrote.matchAll(/WROTE \/[ab] (\d+) bad=(\d+)/g)].map((m) => m.slice(1).map(Number));
      expect(rounds.length).toBe(2);
      for (const [count, bad] of rounds) {
        expect(bad).toBe(0);
        expect(count).toBeGreaterThanOrEqual(4);
      }
      // All that the guest keeps in memory is on the disk before it is counted; ext4 may yet fill its inode tables.
      await linux.sh('dd if=/dev/urandom of=/a/f bs=1M count=4 2>/dev/null; sync');
      const blocks = statSync(raw).blocks;
      await linux.sh('rm /a/f*; sync; fstrim /a');
      expect((blocks - statSync(raw).blocks) * 512).toBeGreaterThan(3 << 20);
      if (HAS_MOUNT) await meetsAFullHost(linux);
      if (HAS_MOUNT) await discardsOnADevice(linux);
      await linux.sh('echo kept >/a/kept; umount /a /b');
      for (const dev of ['xvda', 'xvdb']) await linux.sh(`/sbin/e2fsck -fn /dev/${dev}`);
      expect(await linux.unplug(51728, 120_000)).toBe(true);
      await linux.sh('while [ -e /dev/xvdb ]; do sleep 0.1; done');
      const named = linux.log.filter((line) => line.startsWith('disk') || line.startsWith('vbd'));
      expect(named.filter((line) => !line.startsWith(`disk ${dir}/full/`))).toEqual([]);
    } finally {
      await linux.stop();
    }
    tools.run('e2fsck', '-fn', raw);
    if (HAS_QEMU) {
      execFileSync('qemu-img', ['check', '-q', qcow2]);
      execFileSync('qemu-img', ['convert', '-O', 'raw', qcow2, join(dir, 'converted.img')]);
      tools.run('e2fsck', '-fn', join(dir, 'converted.img'));
    }
  }, 1_800_000);
});
