/** Rows S2 and S3: unlike hosts, and guests that are short of memory or busy with xenstore. S4 is in hosts.test.ts. */
import { expect, it } from 'vitest';
import { VERDICT, verdictIn } from '../../src/demo/verdict.js';
import type { ScenarioWorld } from './world.js';

/** Reads a node `times` times, each as a raw message, and collects the digests of the answers. */
const HAMMER =
  'h() { exec 4<>/proc/xen/xenbus; while [ ! -e /tmp/calm ]; do ' +
  "printf '\\002\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\005\\0\\0\\0name\\0' >&4; dd bs=24 count=1 <&4 2>/dev/null | md5sum; done >/tmp/answers; }";

export function mixedScenarios(world: () => ScenarioWorld): void {
  it('S2: the guest cannot see that hosts have another identity, version and features', async () => {
    const w = world();
    const from = w.guest.text.length;
    w.guest.type('observer 10 0\n');
    await w.guest.until(/OBS START/, 120, from);
    const hosts = [
      w.a,
      w.host({ name: 'ancient', domid: 2, xenVersion: '4.1.0', tscKhz: 1_000_000, uptimeNs: -1e14 }),
      w.host({ name: 'newest', domid: 32_000, xenVersion: '4.21.0', tscKhz: 5_000_000, uptimeNs: 1e15 }),
      w.b,
    ];
    /** Its verdict, which it prints with a sample: on a busy machine that may take a while. */
    const verdict = (): Promise<RegExpExecArray> => {
      const asked = w.guest.text.length;
      w.guest.type('v\n');
      return w.guest.until(VERDICT, 240, asked);
    };
    const looks = [Number((await verdict())[1])];
    for (const host of hosts) {
      await new Promise((done) => setTimeout(done, 250));
      await w.move(host);
      looks.push(Number((await verdict())[1]));
    }
    for (let i = 1; i < looks.length; i++) expect(looks[i]).toBeGreaterThan(looks[i - 1]);
    const { samples, cpus, backwards, differences, right } = verdictIn(await verdict());
    expect({ cpus, backwards, differences }).toEqual({ cpus: 2, backwards: 0, differences: 0 });
    expect(samples).toBeGreaterThan(5);
    expect(right).toBe(true);
    expect(w.guest.text.slice(from)).not.toContain('OBS DIFF');
    w.guest.type('q\n');
    // The shell may ask the terminal for the cursor's position.
    await w.guest.until(/guest# (\x1b\[6n)?$/, 60, from);
    expect(await w.guest.command('cat /sys/hypervisor/version/*')).toContain('17');
  });

  it('S3: the guest moves under memory pressure, and while it sends many xenstore requests', async () => {
    const w = world();
    await w.guest.command(
      "mount -t tmpfs -o size=90% fill /mnt; dd if=/dev/zero of=/mnt/fill bs=1M 2>/dev/null count=$(($(awk '/MemAvailable/{print $2}' /proc/meminfo)/1024-14))",
      240,
    );
    const free = Number(/MemAvailable: *(\d+)/.exec(await w.guest.command('cat /proc/meminfo'))?.[1]);
    expect(free).toBeLessThan(24_000);
    await w.guest.command(`${HAMMER}; h & true`);
    await w.moves(3, 250);
    const answers = await w.guest.command(
      // However slow the machine is, it has made some requests.
      'while [ $(wc -l </tmp/answers) -le 5 ]; do sleep 0.1; done; touch /tmp/calm; wait; sort /tmp/answers | uniq -c',
      240,
    );
    // All digests are the same.
    expect(answers.trim().split('\n').length).toBe(1);
    expect(Number(answers.trim().split(/\s+/)[0])).toBeGreaterThan(5);
    await w.guest.command('rm /tmp/calm /tmp/answers; umount /mnt');
    expect(await w.troubles()).toBe('');
  });
}
