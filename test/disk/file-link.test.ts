import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

// This uses the build, because a link's threads are separate modules.
const built = <T>(module: string): Promise<T> =>
  import(new URL(`../../dist/${module}.js`, import.meta.url).href) as Promise<T>;
const { DiskAccess } =
  await built<typeof import('../../src/devices/vbd/disk-access.js')>('devices/vbd/disk-access');
const { deviceNumber, FileLink } =
  await built<typeof import('../../src/host/disk/file-link.js')>('host/disk/file-link');
const { openQemuImage } = await built<typeof import('../../src/host/disk/qemu-nbd.js')>('host/disk/qemu-nbd');
const { ReceivedDisks } =
  await built<typeof import('../../src/host/disk/received-disks.js')>('host/disk/received-disks');

const HAS_QEMU = spawnSync('qemu-img', ['--version']).status === 0;
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-file-link-'));
const full = join(dir, 'full');
mkdirSync(full);
const MOUNTED = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'none', full]).status === 0;
afterAll(() => {
  if (MOUNTED) spawnSync('umount', [full]);
  rmSync(dir, { recursive: true });
});

const open = async (path: string, log: string[] = []) =>
  new DiskAccess(await FileLink.open({ path, readOnly: false, discard: true }), 1, (line) => log.push(line));

it.each([
  [0x0801, '8:1'],
  [0x10_3b05, '59:261'],
  [0xfd00, '253:0'],
  // Minor 256 of the device mapper, and minor 1000 of NVMe.
  [0x10_fd00, '253:256'],
  [259 * 256 + (1000 & 0xff) + (1000 >> 8) * 0x10_0000, '259:1000'],
])('device number %i is %s', (rdev, words) => {
  expect(deviceNumber(rdev)).toBe(words);
});

it('has the device numbers that this machine reports', () => {
  for (const path of ['/dev/null', '/dev/zero', '/dev/tty']) {
    const { stdout, status } = spawnSync('stat', ['-c', '%t %T', path], { encoding: 'utf8' });
    if (status !== 0) continue;
    const [major, minor] = stdout
      .trim()
      .split(' ')
      .map((digits) => Number.parseInt(digits, 16));
    expect(deviceNumber(statSync(path).rdev)).toBe(`${major}:${minor}`);
  }
});

describe('a file that ends within a sector', () => {
  it('reads as zeros after its end, and a write there completes the sector', async () => {
    const path = join(dir, 'odd.img');
    writeFileSync(path, Buffer.alloc(1000, 7));
    const access = await open(path);
    expect(access.link.geometry.sectors).toBe(2);
    access.buffer(0, 1024).fill(9);
    await access.read(0, 0, 1024);
    expect([...access.buffer(0, 1024).subarray(998, 1002), access.buffer(0, 1024)[1023]]).toEqual([
      7, 7, 0, 0, 0,
    ]);
    await expect(access.read(0, 1024, 512)).rejects.toThrow('EIO');
    expect(statSync(path).size).toBe(1000);
    access.buffer(0, 512).fill(8);
    await access.write(0, 512, 512);
    expect(readFileSync(path).subarray(510)).toEqual(
      Buffer.concat([Buffer.alloc(2, 7), Buffer.alloc(512, 8)]),
    );
    await access.close();
  });

  it.each([
    ['zeros', 0, 1000],
    ['what the guest has written there', 5, 1024],
  ])('arrives with %s after its end', async (_what, byte, size) => {
    const path = join(dir, `arriving${byte}.img`);
    writeFileSync(path, '');
    truncateSync(path, 1024);
    const taker = new ReceivedDisks(
      [{ devid: 1, path, format: 'raw', bytes: 1024, fileBytes: 1000 }],
      () => undefined,
    );
    await taker.begin(1, 1024);
    await taker.write(1, 0, 1024, Buffer.concat([Buffer.alloc(1000, 7), Buffer.alloc(24, byte)]));
    await taker.flush();
    await taker.close();
    expect(readFileSync(path)).toEqual(
      Buffer.concat([Buffer.alloc(1000, 7), Buffer.alloc(24, byte)]).subarray(0, size),
    );
  });
});

describe.skipIf(!MOUNTED)('a file system without space', () => {
  it("fails a guest's writes with its name in the log, and serves them again when there is space", async () => {
    const path = join(full, 'sparse.img');
    writeFileSync(path, '');
    truncateSync(path, 4 << 20);
    const log: string[] = [];
    const access = await open(path, log);
    access.buffer(0, 1 << 20).fill(1);
    await expect(access.write(0, 0, 1 << 20)).rejects.toThrow('ENOSPC, no space left on device');
    expect(log[0]).toBe(
      `disk ${path}: write of 2048 sectors at 0: ENOSPC, no space left on device (failure 1)`,
    );
    // What was written before can be read and written again.
    await access.read(0, 0, 4096);
    await access.write(0, 0, 4096);
    await access.close();
    rmSync(path);
  });

  it.skipIf(!HAS_QEMU)('also fails writes to a qcow2 image', async () => {
    const path = join(full, 'image.qcow2');
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '4M']);
    const log: string[] = [];
    const link = await openQemuImage({ path, format: 'qcow2', readOnly: false, discard: false });
    const access = new DiskAccess(link, 1, (line) => log.push(line));
    access.buffer(0, 1 << 20).fill(1);
    await expect(access.write(0, 0, 1 << 20)).rejects.toThrow('ENOSPC, no space left on device');
    expect(log[0]).toContain('the server answers ENOSPC, no space left on device');
    await access.close();
    rmSync(path);
  });

  it('refuses an arriving disk, with the reason', async () => {
    const path = join(full, 'coming.img');
    writeFileSync(path, '');
    truncateSync(path, 1 << 20);
    const taker = new ReceivedDisks([{ devid: 1, path, format: 'raw', bytes: 1 << 20 }], () => undefined);
    await taker.begin(1, 1 << 20);
    await expect(taker.write(1, 0, 1 << 20, Buffer.alloc(1 << 20, 1))).rejects.toThrow(
      `the disk that comes cannot be kept here: disk ${path}: 1048576 bytes at 0: ENOSPC, no space left on device`,
    );
    await taker.close();
    rmSync(path);
  });
});
