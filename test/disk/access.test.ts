import { chmodSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TwoHosts, until } from '../migration/hosts.js';

/** Only the guests of a daemon that runs as root have processes with their own users. */
describe.skipIf(process.getuid?.() !== 0)(
  'an image that only root may open, for guests with their own users',
  () => {
    let hosts: TwoHosts;
    let image = '';
    beforeAll(async () => {
      hosts = await TwoHosts.open(17_660);
    });
    afterAll(() => hosts?.close());
    beforeEach(() => {
      image = join(hosts.root, 'image');
      rmSync(image, { force: true });
      writeFileSync(image, Buffer.alloc(4096, 1));
      chmodSync(image, 0o600);
    });
    afterEach(() => hosts.clear());

    const looks = (path = image) => {
      const { uid, gid, mode, ino } = statSync(path);
      return { uid, gid, mode: mode.toString(8), ino };
    };
    /** Creates a guest here with that image; on the host called `name` the image is refused. */
    const guest = (refusedOn = '') => hosts.guest(`image = "${image}"\nrefuseOn = "${refusedOn}"`);

    it('has its old access list when the other host has refused the guest, which goes on with the image', async () => {
      const before = looks();
      const { name } = await guest('B');
      const given = looks();
      expect(given).toMatchObject({ uid: 0, gid: 0 });
      await expect(hosts.a.ask('migrate', { guest: name, host: 'B' })).rejects.toThrow(
        'the disk is not to be had',
      );
      expect((await hosts.settled(name)).on).toBe('A');
      expect(looks()).toEqual(given);
      // It was opened again when the guest went on.
      expect(hosts.violations()).toEqual([]);
      await hosts.a.ask('destroy', { guest: name });
      await until('it is what it was', () => JSON.stringify(looks()) === JSON.stringify(before) || undefined);
    });

    it('goes with the guest, and has its old access list when the guest is gone', async () => {
      const before = looks();
      const { name } = await guest();
      await hosts.a.ask('migrate', { guest: name, host: 'B' });
      expect((await hosts.settled(name)).on).toBe('B');
      expect(looks()).toMatchObject({ uid: 0, gid: 0 });
      await hosts.b.ask('migrate', { guest: name, host: 'A' });
      expect((await hosts.settled(name)).on).toBe('A');
      expect(hosts.violations()).toEqual([]);
      await hosts.a.ask('destroy', { guest: name });
      await until('it is what it was', () => JSON.stringify(looks()) === JSON.stringify(before) || undefined);
    });

    it('is not changed where a disk is refused', async () => {
      const { name } = await guest();
      const folder = join(hosts.root, 'folder');
      mkdirSync(folder, { recursive: true });
      for (const path of [folder, '/dev/null']) {
        const before = looks(path);
        await expect(hosts.a.ask('blockAttach', { guest: name, spec: `${path},raw,xvdf,w` })).rejects.toThrow(
          `disk ${path}: neither a file nor a block device`,
        );
        expect(looks(path)).toEqual(before);
      }
      await expect(hosts.guest(`image = "${folder}"`)).rejects.toThrow('neither a file nor a block device');
      expect(looks(folder)).toMatchObject({ uid: 0, gid: 0 });
    });
  },
);
