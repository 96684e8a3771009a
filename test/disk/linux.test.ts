import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { E2fsprogs } from './e2fsprogs.js';
import { LinuxGuest } from './linux-guest.js';

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-disk-'));
afterAll(() => rmSync(dir, { recursive: true }));
/** Moves of the writing guest: more in `npm run soak -- disk`. */
const MOVES = Number(process.env['STILLPOINT_DISK_MOVES'] ?? 6);
const HAS_QEMU = spawnSync('qemu-nbd', ['--version']).status === 0;

const image = (name: string, mib: number): string => {
  const path = join(dir, name);
  writeFileSync(path, '');
  truncateSync(path, mib * 1024 * 1024);
  return path;
};

/** Writes files of tagged lines past the page cache, reads them back past it, and says what differs. */
const WRITER = `w() { i=0; bad=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i >/tmp/n$2; f=$1/f$((i%9));
yes "$1 round $i" | head -c $((4096*(1+i%12))) >/tmp/b$2;
dd if=/tmp/b$2 of=$f bs=16k conv=fsync 2>/dev/null || bad=$((bad+1));
echo 1 >/proc/sys/vm/drop_caches; cmp -s $f /tmp/b$2 || bad=$((bad+1)); done;
echo "WROTE $1 $i bad=$bad" >/tmp/r$2; }`;

describe("Debian's kernel on disks of ours", () => {
  it('makes, mounts and checks ext4 on raw and qcow2, plugged in as it runs, written and checked through moves', async () => {
    const tools = await E2fsprogs.fetch();
    const raw = image('raw.img', 64);
    const qcow2 = join(dir, 'disk.qcow2');
    const second = HAS_QEMU ? `format=qcow2,vdev=xvdb,target=${qcow2}` : `${image('two.img', 64)},raw,xvdb,w`;
    if (HAS_QEMU) execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', qcow2, '64M']);
    const linux = await LinuxGuest.boot(tools, [`${raw},raw,xvda,w`]);
    try {
      await linux.plug(second);
      await linux.sh('while [ ! -e /dev/xvdb ]; do sleep 0.1; done; mkdir -p /a /b');
      for (const [dev, at] of ['xvda a', 'xvdb b'].map((x) => x.split(' ')))
        await linux.sh(`/sbin/mke2fs -q -t ext4 /dev/${dev} && mount /dev/${dev} /${at}`);
      await linux.sh(`${WRITER.replaceAll('\n', ' ')}; w /a 1 & w /b 2 & true`);
      const before = linux.guest.devices.list().map((d) => d.bus.backState);
      for (let i = 0; i < MOVES; i++) {
        await new Promise((done) => setTimeout(done, 150 + 100 * (i % 4)));
        await linux.move();
      }
      expect(linux.guest.devices.list().map((d) => d.bus.backState)).toEqual(before);
      for (const n of [1, 2]) await linux.sh(`while [ "$(cat /tmp/n${n})" -lt 4 ]; do sleep 0.1; done`);
      await linux.sh('touch /tmp/stop; wait');
      const wrote = await linux.sh('cat /tmp/r1 /tmp/r2');
      const rounds = [...wrote.matchAll(/WROTE \/[ab] (\d+) bad=(\d+)/g)].map((m) => m.slice(1).map(Number));
      expect(rounds.length).toBe(2);
      for (const [count, bad] of rounds) {
        expect(bad).toBe(0);
        expect(count).toBeGreaterThanOrEqual(4);
      }
      const blocks = statSync(raw).blocks;
      await linux.sh('rm /a/f*; sync; fstrim /a');
      expect(statSync(raw).blocks).toBeLessThan(blocks);
      await linux.sh('echo kept >/a/kept; umount /a /b');
      for (const dev of ['xvda', 'xvdb']) await linux.sh(`/sbin/e2fsck -fn /dev/${dev}`);
      expect(await linux.unplug(51728, 120_000)).toBe(true);
      await linux.sh('while [ -e /dev/xvdb ]; do sleep 0.1; done');
      expect(linux.log.filter((line) => line.startsWith('disk') || line.startsWith('vbd'))).toEqual([]);
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
