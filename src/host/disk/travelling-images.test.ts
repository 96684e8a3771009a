import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { systemFiles } from '../../os/files.js';
import { checked } from '../../protocol/checked.js';
import { readDiskSpec } from '../../protocol/guest-config.js';
import { announcedDisk } from '../../protocol/peer.js';
import {
  discardImages,
  expectedImages,
  keepImages,
  makeImages,
  nameImages,
  retireImages,
  travellingImages,
} from './travelling-images.js';

const here = mkdtempSync(join(tmpdir(), 'stillpoint-storage-'));
afterAll(() => rmSync(here, { recursive: true }));
const folders = { '/srv/images': here, '/srv/images/deep': join(here, 'nowhere') };
const disk = (target: string, more = {}) => ({
  devid: 51712,
  target,
  format: 'raw',
  readOnly: false,
  bytes: 1024,
  ...more,
});

describe('disks that come with a guest', () => {
  it('are made only in folders that the host names for images, and replace no file', () => {
    const expected = (target: string, more = {}) =>
      expectedImages(
        [checked(announcedDisk, disk(target, more), 'not a proper disk')],
        'id',
        folders,
        systemFiles,
      );
    writeFileSync(join(here, 'there'), 'there');
    expect(expected('/srv/images/new')).toEqual([
      {
        devid: 51712,
        target: join(here, 'new'),
        path: join(here, 'new.id.incoming'),
        format: 'raw',
        readOnly: false,
        bytes: 1024,
      },
    ]);
    expect(expected('/srv/images/deep/new')[0].target).toBe(join(here, 'nowhere/new'));
    expect(() => expected('/etc/preload')).toThrow('no folder for /etc/preload');
    expect(() => expected('/srv/images-two/x')).toThrow('no folder for');
    expect(() => expected('/srv/images/there')).toThrow('is there already');
    expect(expected('/srv/images/there', { readOnly: true })).toEqual([]);
    for (const bad of ['/srv/images/../etc/x', '/srv/images/..', 'srv/images/x', '/srv/images/./x'])
      expect(() => expected(bad), bad).toThrow('not a proper disk');
    expect(() => expected('/srv/images/x', { bytes: -1 })).toThrow('not a proper disk');
    expect(() => expected('/srv/images/x', { format: 'exe' })).toThrow('not a proper disk');
    for (const fileBytes of [1024, 512, 0, -1, 1000.5, '1000'])
      expect(() => expected('/srv/images/x', { fileBytes }), String(fileBytes)).toThrow('not a proper disk');
    expect(expected('/srv/images/x', { fileBytes: 1000 })).toMatchObject([{ bytes: 1024, fileBytes: 1000 }]);
  });

  it('are announced with the size of the disk, and with that of a file that ends within its last sector', () => {
    const announced = (bytes: number) => {
      writeFileSync(join(here, 'announced'), Buffer.alloc(bytes));
      const spec = readDiskSpec(
        JSON.stringify({
          target: '/srv/images/announced',
          format: 'raw',
          vdev: 'xvda',
          virtualDevice: 51_712,
          readOnly: false,
          cdrom: false,
        }),
      );
      return travellingImages([spec], folders, systemFiles, () => 1024)[0];
    };
    expect(announced(1000)).toMatchObject({ bytes: 1024, fileBytes: 1000 });
    expect(announced(1024).fileBytes).toBeUndefined();
    rmSync(join(here, 'announced'));
  });

  it('get their names with the guest, leave nothing without it, and are renamed at the source', async () => {
    const images = expectedImages(
      [checked(announcedDisk, disk('/srv/images/one'), 'a disk')],
      'id',
      folders,
      systemFiles,
    );
    const [{ path, target }] = images;
    await makeImages(images, systemFiles);
    expect(statSync(path).size).toBe(1024);
    await expect(makeImages(images, systemFiles)).rejects.toThrow('EEXIST');
    discardImages(images, systemFiles);
    expect([existsSync(path), existsSync(target)]).toEqual([false, false]);

    await makeImages(images, systemFiles);
    nameImages(images, systemFiles);
    discardImages(images, systemFiles);
    expect([existsSync(path), existsSync(target)]).toEqual([false, false]);

    // Somebody else's file of that name stays, whether it was there before or came during the move.
    await makeImages(images, systemFiles);
    writeFileSync(target, 'mine');
    expect(() => nameImages(images, systemFiles)).toThrow('EEXIST');
    discardImages(images, systemFiles);
    expect(readFileSync(target, 'utf8')).toBe('mine');
    rmSync(target);

    await makeImages(images, systemFiles);
    nameImages(images, systemFiles);
    keepImages(images, systemFiles);
    discardImages(images, systemFiles);
    expect([existsSync(path), existsSync(target)]).toEqual([false, true]);
    const left = { path: target, ino: statSync(target).ino };
    retireImages([left, left, { path: join(here, 'never'), ino: undefined }], systemFiles);
    expect([existsSync(target), existsSync(`${target}.moved`)]).toEqual([false, true]);
    // What is not there may have been removed by a daemon that died before that was on disk.
    const opened: string[] = [];
    const files = {
      ...systemFiles,
      open: (name: string, how: 'r' | 'w' | 'wx', mode?: number) => {
        opened.push(name);
        return systemFiles.open(name, how, mode);
      },
    };
    retireImages([left], files);
    discardImages(images, files);
    expect(opened).toEqual([here, here]);
    // The guest has come back with its disk, and a daemon does again what it had not recorded as done.
    writeFileSync(target, 'come back');
    retireImages([left], systemFiles);
    expect(readFileSync(target, 'utf8')).toBe('come back');
    expect(readFileSync(`${target}.moved`, 'utf8')).not.toBe('come back');
  });
});
