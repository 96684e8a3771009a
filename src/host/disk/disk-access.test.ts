import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { Acl } from '../../os/posix-acl.js';
import type { GivenAccess } from '../images.js';
import { type DiskGiver, type DiskNamed, giveDisks, keepDisks, takeBack } from './disk-access.js';
import { DiskLock } from './disk-lock.js';

const ROOT = process.getuid?.() === 0;
const HAS_QEMU = spawnSync('qemu-img', ['--version']).status === 0;
const SOURCE = 1_100_001;
const DESTINATION = 1_100_002;

describe('an access control list', () => {
  /** The list as getfacl would print it. */
  const words = (acl: Acl): string => {
    const bytes = Buffer.from(acl.encode());
    const names: Record<number, string> = { 1: 'u:', 2: 'u', 4: 'g:', 8: 'g', 16: 'm:', 32: 'o:' };
    const all: string[] = [];
    for (let at = 4; at < bytes.length; at += 8) {
      const tag = bytes.readUInt16LE(at);
      const id = tag === 2 || tag === 8 ? bytes.readUInt32LE(at + 4) : '';
      all.push(`${names[tag]}${id}${bytes.readUInt16LE(at + 2)}`);
    }
    return all.join(' ');
  };

  it('gets an entry for one user, and loses that entry again without a trace', () => {
    const acl = Acl.ofMode(0o640);
    acl.allow(7, 6);
    expect(words(acl)).toBe('u:6 u76 g:4 m:6 o:0');
    acl.allow(9, 4);
    expect(words(Acl.decode(acl.encode()))).toBe('u:6 u76 u94 g:4 m:6 o:0');
    expect([acl.permissionsOf(7), acl.permissionsOf(8)]).toEqual([6, undefined]);
    acl.forget(7);
    expect(words(acl)).toBe('u:6 u94 g:4 m:4 o:0');
    acl.forget(9);
    expect(words(acl)).toBe('u:6 g:4 o:0');
  });

  it('gives no more access to others when a new entry widens its mask', () => {
    const acl = Acl.ofMode(0o600);
    acl.allow(5, 6);
    // As after `chmod g-w`, which changes the mask.
    const bytes = acl.encode();
    const masked = Acl.decode(bytes.map((byte, at) => (bytes[at - 2] === 16 && at % 8 === 6 ? 4 : byte)));
    expect(words(masked)).toBe('u:6 u56 g:0 m:4 o:0');
    masked.allow(7, 6);
    expect(words(masked)).toBe('u:6 u54 u76 g:0 m:6 o:0');
  });
});

describe.skipIf(!ROOT)('disks that a root daemon gives a guest access to', () => {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-access-'));
  chmodSync(dir, 0o711);
  afterAll(() => rmSync(dir, { recursive: true }));
  let n = 0;
  let image = '';
  beforeEach(() => {
    image = join(dir, `${++n}.img`);
    writeFileSync(image, Buffer.alloc(4096, 1), { mode: 0o600 });
  });

  const disk = (target: string, format: DiskNamed['format'] = 'raw', readOnly = false): DiskNamed => ({
    target,
    format,
    readOnly,
  });
  class Given implements DiskGiver {
    given: readonly GivenAccess[] = [];
    readonly folders = {};
    constructor(
      readonly uid: number,
      readonly backing: readonly string[] = [],
    ) {}
    record(given: readonly GivenAccess[]): void {
      this.given = given;
    }
    give(...disks: DiskNamed[]): Promise<void> {
      return giveDisks(this, disks);
    }
    async takeBack(): Promise<void> {
      await takeBack(this.uid, this.given);
    }
  }
  /** Whether a process of this user can open the file in this way. */
  const opens = (uid: number, path: string, flags = 'r+'): boolean => {
    const script = `require('node:fs').openSync(process.argv[1], process.argv[2])`;
    return spawnSync(process.execPath, ['-e', script, path, flags], { uid, gid: uid, cwd: '/' }).status === 0;
  };
  const looks = (path: string) => {
    const { uid, gid, mode, ino } = statSync(path);
    return { uid, gid, mode, ino };
  };

  it("are the guest's while it is there; after it their owner and mode are as before", async () => {
    const before = looks(image);
    const given = new Given(SOURCE);
    await given.give(disk(image));
    expect(opens(SOURCE, image)).toBe(true);
    expect(opens(DESTINATION, image)).toBe(false);
    expect([looks(image).uid, looks(image).gid]).toEqual([0, 0]);
    await given.takeBack();
    expect(looks(image)).toEqual(before);
    expect(opens(SOURCE, image)).toBe(false);
    await given.give(disk(image, 'raw', true));
    expect([opens(SOURCE, image, 'r'), opens(SOURCE, image)]).toEqual([true, false]);
    await given.takeBack();
  });

  it("remain the source's when a destination refuses, also where both hosts use the same user id", async () => {
    for (const uid of [DESTINATION, SOURCE]) {
      const source = new Given(SOURCE);
      await source.give(disk(image));
      const before = looks(image);
      const destination = new Given(uid);
      await destination.give(disk(image));
      expect(opens(uid, image)).toBe(true);
      await destination.takeBack();
      expect(looks(image)).toEqual(before);
      expect(opens(SOURCE, image), 'the source opens it again').toBe(true);
      await source.takeBack();
    }
  });

  it("are the destination's when the source has let go of them, also where both hosts use the same user id", async () => {
    for (const uid of [DESTINATION, SOURCE]) {
      const source = new Given(SOURCE);
      await source.give(disk(image));
      const destination = new Given(uid);
      await destination.give(disk(image));
      await source.takeBack();
      destination.given = await keepDisks(uid, destination.given);
      expect(opens(uid, image)).toBe(true);
      await destination.takeBack();
      expect(opens(uid, image)).toBe(false);
    }
  });

  it('are checked before anything about them is changed', async () => {
    const folder = join(dir, 'folder');
    mkdirSync(folder, { recursive: true });
    const link = join(dir, 'link');
    symlinkSync('/dev/null', link);
    const fifo = join(dir, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const empty = join(dir, 'empty');
    writeFileSync(empty, '', { mode: 0o600 });
    const given = new Given(SOURCE);
    for (const [path, why] of [
      [folder, 'neither a file nor a block device'],
      ['/dev/null', 'neither a file nor a block device'],
      [link, 'neither a file nor a block device'],
      [fifo, 'neither a file nor a block device'],
      [empty, 'the file is empty'],
      [join(dir, 'none'), 'ENOENT'],
    ]) {
      const before = path.endsWith('none') ? undefined : looks(path);
      // The first disk is right and the second wrong: access to neither is given.
      const whole = looks(image);
      await expect(given.give(disk(image), disk(path))).rejects.toThrow(
        `disk ${path}: ${why}`.replace(/: ENOENT/, ''),
      );
      if (before !== undefined) expect(looks(path)).toEqual(before);
      expect(looks(image)).toEqual(whole);
      expect(given.given).toEqual([]);
    }
    await expect(given.give(disk(image, 'qcow2'))).rejects.toThrow(
      `disk ${image} (qcow2): the image is not in qcow2`,
    );
    const lock = await DiskLock.take(image, false);
    await expect(given.give(disk(image))).rejects.toThrow(
      'another guest, here or on another host, has it open',
    );
    lock.close();
    expect(opens(SOURCE, image)).toBe(false);
    expect(statSync('/dev/null').mode & 0o777).toBe(0o666);
  });

  it.skipIf(!HAS_QEMU)(
    'bring their backing files along where the host allows it; otherwise the message says what to change',
    async () => {
      const base = join(dir, 'base');
      mkdirSync(base, { mode: 0o711, recursive: true });
      const qemu = (...args: string[]) => execFileSync('qemu-img', args, { stdio: 'pipe' });
      const raw = join(base, 'raw.img');
      const middle = join(base, 'middle.qcow2');
      const top = join(dir, 'top.qcow2');
      writeFileSync(raw, Buffer.alloc(1 << 20, 5), { mode: 0o600 });
      qemu('create', '-q', '-f', 'qcow2', '-b', raw, '-F', 'raw', middle);
      qemu('create', '-q', '-f', 'qcow2', '-b', 'base/middle.qcow2', '-F', 'qcow2', top);
      const data = join(base, 'data.raw');
      const headed = join(dir, 'headed.qcow2');
      qemu('create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, headed, '1M');
      for (const path of [middle, top, headed, data]) chmodSync(path, 0o600);
      const before = [raw, middle, top, data, headed].map(looks);

      const strict = new Given(SOURCE);
      await expect(strict.give(disk(top, 'qcow2'))).rejects.toThrow(
        `disk ${top}: its backing file ${middle} is not open to the guest's user, and the image itself names it: let others read it (chmod o+r ${middle}), or name its folder under "backing"`,
      );
      await expect(strict.give(disk(headed, 'qcow2'))).rejects.toThrow(`its data file ${data} is not open`);
      expect([raw, middle, top, data, headed].map(looks)).toEqual(before);

      const given = new Given(SOURCE, [base]);
      await given.give(disk(top, 'qcow2'), disk(headed, 'qcow2'));
      expect([top, middle, raw, headed, data].map((path) => opens(SOURCE, path))).toEqual([
        true,
        false,
        false,
        true,
        true,
      ]);
      expect([middle, raw].map((path) => opens(SOURCE, path, 'r'))).toEqual([true, true]);
      const read = ['-c', 'read -P 5 0 65536', '-f', 'qcow2', top];
      expect(
        execFileSync('qemu-io', read, { uid: SOURCE, gid: SOURCE, encoding: 'utf8', cwd: '/' }),
      ).toContain('read 65536');
      await given.takeBack();
      expect([raw, middle, top, data, headed].map(looks)).toEqual(before);

      // A backing file that everybody may read needs no entry.
      chmodSync(middle, 0o644);
      chmodSync(raw, 0o644);
      await strict.give(disk(top, 'qcow2', true));
      expect(strict.given.map(({ path }) => path)).toEqual([top]);
      await strict.takeBack();
      expect(readFileSync(raw)[0]).toBe(5);
    },
  );
});
