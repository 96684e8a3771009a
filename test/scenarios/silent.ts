/** Rows W1, W2, W6 and the watches: guests that do not answer requests to suspend, and that nobody asks. */
import { expect, it } from 'vitest';
import type { ScenarioWorld } from './world.js';

/** A message from the guest to xenstore, for its shell's printf. Source: xen/include/public/io/xs_wire.h. */
function message(type: number, body: string): string {
  const octal = (n: number): string => `\\${n.toString(8).padStart(3, '0')}`;
  const word = (n: number): string => [0, 8, 16, 24].map((shift) => octal((n >>> shift) & 255)).join('');
  return (
    word(type) + word(0) + word(0) + word(body.length) + [...body].map((c) => octal(c.charCodeAt(0))).join('')
  );
}
const XS_WATCH = 4;

/**
 * Writes verified data to the disk until /tmp/stop exists: each block is written and read back without the page cache.
 */
export const WRITER = (n: number): string =>
  `w${n}() { i=0; bad=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i >/tmp/n${n}; yes "disk ${n} round $i" | head -c 131072 >/tmp/b${n}; ` +
  `s=$((${n}*32+(i%8)*4)); dd if=/tmp/b${n} of=/dev/xvda bs=32k seek=$s conv=fsync 2>/dev/null || bad=$((bad+1)); ` +
  `echo 1 >/proc/sys/vm/drop_caches; dd if=/dev/xvda bs=32k skip=$s count=4 2>/dev/null | cmp -s - /tmp/b${n} || bad=$((bad+1)); done; ` +
  `echo "WROTE ${n} $i bad=$bad" >/tmp/r${n}; }`;

/** Stops the writers. Returns how many rounds each has made; none may have found a wrong block. */
export async function stopWriters(w: ScenarioWorld, writers: number, least: number): Promise<number[]> {
  for (let n = 1; n <= writers; n++)
    await w.guest.command(
      `while ! [ "$(cat /tmp/n${n})" -ge ${least} ] 2>/dev/null; do sleep 0.1; done`,
      240,
    );
  const text = await w.guest.command('touch /tmp/stop; wait; cat /tmp/r*; rm /tmp/stop /tmp/r*', 240);
  const rounds = [...text.matchAll(/WROTE (\d+) (\d+) bad=(\d+)/g)].map((m) => m.slice(1).map(Number));
  expect(rounds.map(([n, , bad]) => [n, bad])).toEqual(Array.from({ length: writers }, (_, i) => [i + 1, 0]));
  return rounds.map(([, count]) => count);
}

export function silentScenarios(world: () => ScenarioWorld): void {
  it('W1: a guest that would ignore a request to suspend moves, and nothing is written to control/shutdown', async () => {
    const w = world();
    expect(w.bootLog).toContain('xen_setup_shutdown_event blacklisted');
    const seen: string[] = [];
    for (let i = 0; i < 2; i++) {
      w.inner.store.dom0.watch('/local/domain/1/control', (path) => seen.push(path));
      await w.move();
      w.inner.store.dom0.watch('/local/domain/1/control', (path) => seen.push(path));
    }
    expect(await w.guest.command('echo alive')).toContain('alive');
    // Each watch fires once when it is set.
    expect(seen).toEqual(Array.from({ length: 4 }, () => '/local/domain/1/control'));
    expect(w.inner.store.dom0.tryRead('/local/domain/1/control/shutdown')).toBe('');
    // Hosts write only the empty node.
    const shown = [...w.a.written, ...w.b.written].filter((node) => node.startsWith('control/shutdown'));
    expect(new Set(shown)).toEqual(new Set(['control/shutdown=']));
  });

  it('W2: the guest moves while its disk is saturated', async () => {
    const w = world();
    const link = () => w.at.disk;
    await w.guest.command(`${WRITER(1)}; ${WRITER(2)}; w1 & w2 & true`);
    let busy = 0;
    for (let i = 0; i < 4; i++) {
      await new Promise((done) => setTimeout(done, 120));
      await w.move();
      busy += link()?.done.length ?? 0;
    }
    await stopWriters(w, 2, 4);
    expect((link()?.done.length ?? 0) + busy).toBeGreaterThan(20);
    expect(await w.troubles()).toBe('');
  });

  it('W6: the guest moves with several vCPUs, all of them at work', async () => {
    const w = world();
    const sum = 'yes stillpoint | head -c 150000 | md5sum';
    const right = (await w.guest.command(sum)).trim();
    const from = w.guest.text.length;
    w.guest.type(`for i in 1 2 3 4; do ${sum} & done; wait; echo "do""ne"\n`);
    await w.moves(2, 80);
    const [, out] = await w.guest.until(/([\s\S]*)^done/m, 240, from);
    expect(out.split(right).length - 1, out).toBe(4);
    const { vcpus } = w.inner.domain.state;
    expect(vcpus.filter((v) => !v.down).length).toBe(2);
    expect(await w.troubles()).toBe('');
  });

  it('Watches: a watch from before the move fires once for a change after it, and the move itself fires none', async () => {
    const w = world();
    const probe = '/local/domain/1/data/probe';
    const watches = ['data/probe\0first\0', 'control\0second\0', 'device\0third\0'].map((b) =>
      message(XS_WATCH, b),
    );
    await w.guest.command(
      `exec 3<>/proc/xen/xenbus; cat <&3 >/tmp/events & EV=$!; ${watches.map((m) => `printf '${m}' >&3; `).join('')}sleep 0.3`,
    );
    const events = () =>
      w.guest.command("sleep 0.2; tr -c 'a-z/' '\\n' </tmp/events | grep -v '^$' | tr '\\n' ' '; echo");
    const registered = await events();
    expect(registered).toContain('data/probe first');
    await w.moves(3, 50);
    expect(await events()).toBe(registered);
    w.inner.store.dom0.write(probe, '1');
    w.inner.store.service();
    expect((await events()).slice(registered.length - 1).trim()).toBe('data/probe first');
    await w.guest.command('exec 3>&-; kill $EV; wait $EV; true');
    w.inner.store.dom0.remove(probe);
  });
}
