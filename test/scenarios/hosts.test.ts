/** Rows W3, D6 and S4, with daemons: a friendly Linux with a disk, and links that are cut. */
import { rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { bootLinux, guestFiles } from '../e2e/moving-guests.js';
import { type TestHost, TwoHosts } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';

const MINUTES = 60_000;
/** The data connection is cut after so many bytes: at the start, early, and in the middle of memory. */
const CUTS = [1, 100_000, 30_000_000];
/** Every connection is cut at these fractions of a move's duration. */
const INSTANTS = [0.3, 0.8, 0.95];

describe.skipIf(guestFiles === undefined)('Linux with all its code for a suspend, and a disk', () => {
  let hosts: TwoHosts;
  let at: TestHost;
  const other = (): TestHost => (at === hosts.a ? hosts.b : hosts.a);
  let asked = 0;
  /** Checks that the guest answers at the shell, and that its disk holds what was written there. */
  const alive = async (): Promise<void> => {
    const n = ++asked;
    await at.consoleOf(
      'friendly',
      `echo round-${n} | dd of=/dev/xvda conv=fsync 2>/dev/null; echo 1 >/proc/sys/vm/drop_caches; head -c 9 /dev/xvda; echo " al""ive ${n}"\n`,
      new RegExp(`round-${n}[\\s\\S]* alive ${n}`),
    );
  };
  const image = (name: string): string => {
    const path = join(hosts.root, name);
    writeFileSync(path, '');
    truncateSync(path, 4 << 20);
    return path;
  };

  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_540), { runner: undefined });
    at = hosts.a;
    symlinkSync(image('one.img'), join(hosts.root, 'disk.img'));
    const disk = join(hosts.root, 'disk.img');
    await bootLinux(hosts, at, { name: 'friendly', configLines: `disk = ['${disk},raw,xvda,w']` });
  }, 10 * MINUTES);
  afterAll(() => hosts?.close());

  it('W3: a guest that would acknowledge a request to suspend is never asked', {
    timeout: 5 * MINUTES,
  }, async () => {
    await at.consoleOf('friendly', 'dmesg -c >/dev/null; echo cle""ar\n', /clear/);
    for (let i = 0; i < 2; i++) {
      await at.ask('migrate', { guest: 'friendly', host: other().name });
      at = other();
      await alive();
    }
    const points = await at.ask('points', {
      guest: 'friendly',
    });
    expect(points.find((p) => p.name === 'suspend signal')?.inner).toBe('""');
    const log = await at.consoleOf('friendly', "dmesg | grep -vc drop_caches; echo lo''g\n", /\n(\d+)\nlog/);
    expect(/\n(\d+)\nlog/.exec(log)?.[1]).toBe('0');
    expect((await hosts.settled('friendly')).on).toBe(at.name);
  });

  it('D6: a disk whose lock cannot be taken ends the move, and the guest goes on at the source', {
    timeout: 5 * MINUTES,
  }, async () => {
    // On the receiver, the disk's path leads to an image that another guest there has open.
    const two = image('two.img');
    writeFileSync(join(hosts.root, 'kernel'), smallKernelElf());
    const thief = `name = "thief"\nkernel = "${join(hosts.root, 'kernel')}"\nmemory = 8\ndisk = ['${two},raw,xvda,w']\n`;
    await other().ask('create', { config: thief, file: 'thief.cfg', directory: hosts.root });
    const way = join(hosts.root, 'disk.img');
    rmSync(way);
    symlinkSync(two, way);
    await expect(at.ask('migrate', { guest: 'friendly', host: other().name })).rejects.toThrow('has it open');
    rmSync(way);
    symlinkSync(join(hosts.root, 'one.img'), way);
    await alive();
    await other().ask('destroy', { guest: 'thief' });
    await at.ask('migrate', { guest: 'friendly', host: other().name });
    at = other();
    await alive();
  });

  it('S4: if the protocol is cut at any stage there is exactly one live guest, and none is lost', {
    timeout: 15 * MINUTES,
  }, async () => {
    const moveBroken = async (strike: () => Promise<void>): Promise<string> => {
      const outcome = at.ask('migrate', { guest: 'friendly', host: other().name }).then(
        () => 'moved',
        (error: Error) => error.message,
      );
      await strike();
      const said = await outcome;
      at = (await hosts.settled('friendly')).on === 'A' ? hosts.a : hosts.b;
      expect([...hosts.a.files('guests'), ...hosts.b.files('guests')]).toHaveLength(1);
      await alive();
      return said;
    };
    const began = performance.now();
    expect(await moveBroken(async () => undefined)).toBe('moved');
    const lengthMs = performance.now() - began;
    for (const bytes of CUTS) {
      const from = at;
      hosts.proxy.cutDataAfter = bytes;
      expect(await moveBroken(async () => undefined)).toContain('goes on here');
      hosts.proxy.cutDataAfter = undefined;
      expect(at).toBe(from);
    }
    for (const instant of INSTANTS)
      await moveBroken(async () => {
        await new Promise((done) => setTimeout(done, instant * lengthMs));
        hosts.proxy.cut();
      });
    expect(await moveBroken(async () => undefined)).toBe('moved');
    expect(hosts.processes()).toHaveLength(1);
  });
});
