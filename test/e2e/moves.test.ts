import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { type TestHost, TwoHosts, until } from '../migration/hosts.js';
import { orSkipped } from '../support/debian.js';
import { testPort } from '../support/ports.js';
import { bootGrub, bootLinux, guestFiles, moveToAndFro, verdictOf, WILD } from './moving-guests.js';

const TIMEOUT_MS = 500_000;
const LIB = 'usr/lib/x86_64-linux-gnu';
/** Debian's own xenstore clients. */
const clients = await orSkipped(
  "xenstore's real clients in a move",
  fetchDebian(['xenstore-utils', 'libxenstore4', 'libxentoolcore1']),
);

describe.skipIf(guestFiles === undefined)('a real guest that moves between unlike hosts', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_300), { runner: undefined });
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  it('W4: GRUB at its prompt takes what is typed before and after', { timeout: TIMEOUT_MS }, async () => {
    await bootGrub(hosts, hosts.a, 'grub');
    await hosts.a.consoleOf('grub', 'set word=moved', /set word=moved/);
    const { at } = await moveToAndFro(hosts, 'grub', 3);
    await at.consoleOf('grub', '\necho $word\n', /echo \$word[\s\S]*moved/);
    expect(at.name).toBe('B');
  });

  it('Linux, wild, with four busy processors, sees no difference in anything that it can observe', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await bootLinux(hosts, hosts.a, { name: 'wild', vcpus: 4, extra: WILD });
    await hosts.a.consoleOf('wild', 'writer 4 again &\nobserver 10 0\n', /OBS START /, 300);
    const { stats, at } = await moveToAndFro(hosts, 'wild', 4, { maxRounds: 5 });
    const verdict = await verdictOf(at, 'wild');
    // Its computations are right, no clock runs backwards on any processor, and it is never asked to suspend.
    expect(verdict).toMatchObject({ cpus: 4, backwards: 0, differences: 0, right: true });
    expect(verdict.samples).toBeGreaterThan(2);
    const output = await at.consoleOf('wild', '', /OBS VERDICT/);
    expect(output).not.toMatch(/WRITER round=\d+ bad=[1-9]/);
    expect(stats.map((s) => s.rounds.length > 0 && s.bytes > 1e6)).toEqual([true, true, true, true]);
    const points = await at.ask('points', {
      guest: 'wild',
    });
    expect(points[0].moves).toBe(4);
    expect(points.find((p) => p.name === 'suspend signal')?.inner).toBe('""');
  });

  it.skipIf(clients === undefined)(
    'Linux is listed in the xenstore of each host, and shut down through it',
    { timeout: TIMEOUT_MS },
    async () => {
      const xs = (host: TestHost, tool: string, ...args: string[]): string =>
        execFileSync(join(clients!, 'usr/bin', tool), args, {
          encoding: 'utf8',
          env: {
            ...process.env,
            LD_LIBRARY_PATH: join(clients!, LIB),
            XENSTORED_PATH: join(host.dir, 'xenstore.sock'),
          },
        });
      await bootLinux(hosts, hosts.a, { name: 'asked' });
      await until('its features on A', () => {
        const [domid] = hosts.a.files('guests');
        return (
          xs(hosts.a, 'xenstore-ls', '-fp', `/local/domain/${domid}`).includes(
            '/control/feature-poweroff = "1"',
          ) || undefined
        );
      });
      await moveToAndFro(hosts, 'asked', 1);
      const [domid] = hosts.b.files('guests');
      await until(
        'its features on B',
        () =>
          xs(hosts.b, 'xenstore-ls', '-f').includes(
            `/local/domain/${domid}/control/feature-poweroff = "1"`,
          ) || undefined,
      );
      const tree = xs(hosts.b, 'xenstore-ls', '-fp');
      expect(tree).toContain(`/local/domain/${domid}/name = "asked"   (n0,r${domid})`);
      expect(tree).toContain(`/libxl/${domid}/type = "pv"`);
      expect(xs(hosts.a, 'xenstore-ls', '-f')).not.toContain('asked');
      xs(hosts.b, 'xenstore-write', `/local/domain/${domid}/control/shutdown`, 'poweroff');
      await until('it is off', async () => (await hosts.b.list()).length === 0 || undefined, 100);
    },
  );
});
