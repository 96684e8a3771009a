/** Tests a Linux guest that writes, between two daemons whose folders of images are not shared. */
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MoveStats } from '../../src/protocol/moves.js';
import { bootLinux, guestFiles, WILD } from '../e2e/moving-guests.js';
import { type TestHost, TwoHosts, until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';
import { E2fsprogs } from './e2fsprogs.js';
import { WRITER } from './writer.js';

const MINUTES = 60_000;
const MIB = 1 << 20;

describe.skipIf(guestFiles === undefined)('hosts that share no storage', () => {
  let hosts: TwoHosts;
  let tools: E2fsprogs;
  const folder = (name: string): string => join(hosts.root, `images-${name}`);
  const files = (name: string): string[] => readdirSync(folder(name)).sort();
  const migrate = (from: TestHost, to: TestHost): Promise<MoveStats> =>
    from.ask('migrate', { guest: 'disks', host: to.name, copyStorage: true });
  /** Waits until the writer has done another round and found no error. */
  const writes = (at: TestHost): Promise<string> => {
    const twoRounds = `n=$(($(cat /tmp/n1)+2)); while [ $(cat /tmp/n1) -lt $n ]; do sleep 0.2; done; echo "bad""=$(cat /tmp/bad1)."\n`;
    return at.consoleOf(
      'disks',
      `\n${twoRounds.replaceAll('bad""=', `bad""${++asked}=`)}`,
      new RegExp(`bad${asked}=0\\.`),
      200,
    );
  };
  let asked = 0;

  beforeAll(async () => {
    tools = await E2fsprogs.fetch();
    hosts = await TwoHosts.open(testPort(17_640), { runner: undefined }, (root, name) => ({
      images: { '/srv/images': join(root, `images-${name}`) },
    }));
    for (const name of ['A', 'B']) {
      mkdirSync(folder(name));
      chmodSync(folder(name), 0o777);
    }
    const disk = join(folder('A'), 'data.img');
    writeFileSync(disk, '');
    truncateSync(disk, 48 * MIB);
    tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', '^has_journal', disk);
    writeFileSync(join(folder('A'), 'medium.iso'), Buffer.alloc(MIB, 'medium'));
    await bootLinux(hosts, hosts.a, {
      name: 'disks',
      extra: WILD,
      configLines: "disk = ['/srv/images/data.img,raw,xvda,w', '/srv/images/medium.iso,raw,xvdb,r']",
    });
    const { a } = hosts;
    await a.consoleOf('disks', 'mkdir /a; mount /dev/xvda /a && echo moun""ted\n', /mounted/, 100);
    await a.consoleOf('disks', `${WRITER.replaceAll('\n', ' ')}; w /a 1 &\n`, /# $/, 100);
  }, 10 * MINUTES);
  afterAll(() => hosts?.close());

  it(
    'a disk does not replace an existing file: the move is refused before anything is sent',
    async () => {
      const there = join(folder('B'), 'data.img');
      writeFileSync(there, 'somebody else');
      await expect(migrate(hosts.a, hosts.b)).rejects.toThrow(`${there} is there already`);
      expect(readFileSync(there, 'utf8')).toBe('somebody else');
      rmSync(there);
      await writes(hosts.a);
    },
    5 * MINUTES,
  );

  it(
    'a move that fails leaves nothing of the disk there, and the guest continues writing here',
    async () => {
      hosts.proxy.cutDataAfter = 300_000;
      await expect(migrate(hosts.a, hosts.b)).rejects.toThrow();
      await until('nothing is left', () => files('B').length === 0 || undefined);
      expect(files('A')).toEqual(['data.img', 'medium.iso']);

      // The destination's daemon dies, and with it the process that receives the guest.
      const dies = until('a disk arrives', () => files('B').some((f) => f.endsWith('.incoming')) || undefined)
        .then(() => hosts.b.kill())
        // A process to which its daemon had not yet connected waits a minute for the daemon.
        .then(() =>
          until('its guest process is gone', () => hosts.processes().length === 1 || undefined, 100),
        );
      await expect(migrate(hosts.a, hosts.b)).rejects.toThrow();
      await dies;
      await hosts.b.start();
      await until('nothing is left', () => files('B').length === 0 || undefined);
      await writes(hosts.a);
    },
    5 * MINUTES,
  );

  it(
    'a writing guest moves with its disk, finds no error afterwards, and returns with it',
    async () => {
      const { a, b } = hosts;
      const there = await migrate(a, b);
      expect(there.storageBytes).toBeGreaterThanOrEqual(49 * MIB);
      expect(files('A')).toEqual(['data.img.moved', 'medium.iso']);
      expect(files('B')).toEqual(['data.img', 'medium.iso']);
      await writes(b);
      await b.consoleOf(
        'disks',
        'dd if=/dev/xvdb bs=6 count=1 skip=1000 2>/dev/null; echo .\n',
        /medium\./,
        100,
      );
      const back = await migrate(b, a);
      // The read-only medium was there already.
      expect(back.storageBytes).toBeLessThan(there.storageBytes);
      expect(files('B')).toEqual(['data.img.moved', 'medium.iso']);
      await writes(a);
      await a.consoleOf(
        'disks',
        'touch /tmp/stop; wait; cat /tmp/r1; umount /a && echo umoun""ted\n',
        /bad=0[\s\S]*umounted/,
        200,
      );
      tools.run('e2fsck', '-fn', join(folder('A'), 'data.img'));
      expect(hosts.a.files('handovers')).toEqual([]);
    },
    10 * MINUTES,
  );
});
