/** Rows T1 to T8: time. */
import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { GATEWAY } from '../../scripts/lib/passt.js';
import type { ScenarioWorld } from './world.js';

const SECOND = 1e9;
const DAY = 86_400 * SECOND;
const YEAR = 365 * DAY;

/**
 * Checks that the guest's wall clock is within 1 s of the true time, apart from the delay that it has had since its
 * boot.
 */
async function expectWallClock(w: ScenarioWorld): Promise<void> {
  const { real, before, after } = await w.now();
  expect(real + w.lateNs).toBeGreaterThan(before - SECOND);
  expect(real + w.lateNs).toBeLessThan(after + SECOND);
}

/** The guest's wall clock minus its virtual time, ns; a move must not change it. */
async function wallBase(w: ScenarioWorld): Promise<{ least: number; most: number }> {
  const { clock } = w.inner.domain;
  const before = clock.now();
  const { real } = await w.now();
  return { least: real - clock.now(), most: real - before };
}

/** Runs `clocks` in the guest while `during` moves it; no reading on any vCPU may be less than one before it. */
async function expectForwards(w: ScenarioWorld, during: () => Promise<void>): Promise<number> {
  const from = w.guest.text.length;
  w.guest.type('clocks 400\n');
  await during();
  expect(w.guest.text.slice(from)).not.toContain('CLOCKS');
  const found = await w.guest.until(/CLOCKS cpus=(\d+) reads=(\d+) back=(\d+)\n/, 240, from);
  const [cpus, reads, back] = found.slice(1).map(Number);
  expect({ cpus, back }).toEqual({ cpus: 2, back: 0 });
  return reads;
}

export function timeScenarios(world: () => ScenarioWorld): void {
  it('T1: an open TCP stream continues across the move, and the kernel log keeps its time', async () => {
    const w = world();
    let left = 100;
    const hash = createHash('sha256');
    let connections = 0;
    const server = http.createServer((_, response) => {
      connections++;
      const sendNext = (): void => {
        if (left-- <= 0) return void response.end();
        const chunk = Buffer.alloc(4096, left);
        hash.update(chunk);
        response.write(chunk);
        setTimeout(sendNext, 20);
      };
      sendNext();
    });
    server.listen(0, '127.0.0.1');
    await new Promise((done) => server.once('listening', done));
    const { port } = server.address() as AddressInfo;
    const stamp = async (): Promise<{ at: number; least: number; most: number }> => {
      const least = w.inner.domain.clock.now() / SECOND;
      const line = await w.guest.command('echo mark >/dev/kmsg; dmesg | tail -n 1');
      return {
        at: Number(/\[ *([\d.]+)\] mark/.exec(line)?.[1]),
        least,
        most: w.inner.domain.clock.now() / SECOND,
      };
    };
    const before = await stamp();
    const from = w.guest.text.length;
    w.guest.type(`wget -q -O - http://${GATEWAY}:${port}/ | sha256sum; echo "do""ne"\n`);
    for (let i = 0; i < 3000 && connections === 0; i++) await new Promise((done) => setTimeout(done, 20));
    await w.moves(3, 200);
    expect(left).toBeGreaterThan(0);
    const [, out] = await w.guest.until(/([\s\S]*)^done/m, 240, from);
    expect(out).toContain(hash.digest('hex'));
    expect(connections).toBe(1);
    server.close();
    const after = await stamp();
    // The distance between printk's clock and the virtual clock does not change.
    expect(after.at - before.at).toBeGreaterThan(after.least - before.most - 0.1);
    expect(after.at - before.at).toBeLessThan(after.most - before.least + 0.1);
    expect(await w.troubles()).toBe('');
  });

  it('T2: on a host with lower uptime, lower TSC and another TSC frequency, timers fire and no clock goes back', async () => {
    const w = world();
    const low = w.host({ name: 'low', domid: 9, xenVersion: '4.11.4', tscKhz: 800_000, uptimeNs: -1e15 });
    await expectForwards(w, () => w.move(low));
    expect(await w.guest.command('sleep 0.2; echo woke')).toContain('woke');
    await expectForwards(w, () => w.move(w.a));
    expect(await w.troubles()).toBe('');
  });

  it('T3: of 10 000 readings of CLOCK_MONOTONIC across a move none is less than the one before, on every vCPU', async () => {
    const w = world();
    const reads = await expectForwards(w, () => w.moves(2, 50));
    expect(reads).toBeGreaterThanOrEqual(10_000);
  });

  it("T4: with negative and huge differences between the hosts' clocks, the wall clock is within 1 s of the host’s", async () => {
    const w = world();
    const hosts = [
      { name: 'fresh', uptimeNs: -1e18, tscKhz: 1 },
      { name: 'old', uptimeNs: 2 ** 62, tscKhz: 10_000_000 },
      { name: 'below', uptimeNs: -(2 ** 62), tscKhz: 3_000_000 },
    ];
    for (const [i, words] of hosts.entries()) {
      await w.move(w.host({ ...words, domid: 50 + i, xenVersion: '4.17.0' }));
      await expectWallClock(w);
    }
    // One host is in 2301, another in 1933: the outage is what this side observed of it.
    for (const [i, wallNs] of [280 * YEAR, -90 * YEAR].entries()) {
      const host = w.host({ name: 'astray', domid: 60 + i, xenVersion: '4.17.0', tscKhz: 2_000_000, wallNs });
      await w.move(host, { outageAsSeen: true });
    }
    await w.move(w.b, { outageAsSeen: true });
    const { mono } = await w.now();
    expect(mono).toBeLessThan(w.inner.domain.clock.now() + SECOND);
    await expectWallClock(w);
    expect(await w.guest.command('sleep 0.1; echo woke')).toContain('woke');
    expect(await w.troubles()).toBe('');
  });

  it("a host's clock may be stepped by years while the guest runs there or moves: the guest notices nothing", async () => {
    const w = world();
    for (const steppedNs of [3600 * SECOND, -3600 * SECOND, 10 * YEAR, -30 * YEAR]) {
      await expectForwards(w, async () => {
        w.at.steppedNs = steppedNs;
        await new Promise((done) => setTimeout(done, 50));
      });
      await expectWallClock(w);
      const from = w.at;
      // The clock is stepped again between the stop and the arrival.
      await w.move(undefined, { outageAsSeen: true });
      from.steppedNs = 0;
      w.at.steppedNs = steppedNs / 2;
      await w.move(undefined, { outageAsSeen: true });
      from.steppedNs = 0;
      w.a.steppedNs = 0;
      w.b.steppedNs = 0;
      await expectWallClock(w);
    }
    expect(await w.troubles()).toBe('');
  });

  it('a host may be suspended for a minute under the guest: the time has passed, and nothing else', async () => {
    const w = world();
    await expectForwards(w, async () => {
      w.world.passedNs += 60 * SECOND;
      await new Promise((done) => setTimeout(done, 50));
      await w.move();
      w.world.passedNs += 60 * SECOND;
    });
    await expectWallClock(w);
    expect(await w.guest.command('sleep 0.1; echo woke')).toContain('woke');
    expect(await w.troubles()).toBe('');
  });

  it('T5: after a stop of a virtual day the guest is usable, under both clock policies', async () => {
    const w = world();
    const lateBefore = w.inner.points.outage.total;
    await w.move(undefined, { outageNs: DAY, clock: 'elapse' });
    expect(await w.guest.command('sleep 0.1; echo woke; ls /proc 2>/dev/null | wc -l')).toMatch(/woke\n\d+/);
    await w.move(undefined, { outageNs: DAY, clock: 'freeze' });
    expect(await w.guest.command('sleep 0.1; echo woke; ls /proc 2>/dev/null | wc -l')).toMatch(/woke\n\d+/);
    expect(w.inner.points.outage.total - lateBefore).toBeGreaterThanOrEqual(2 * DAY);
    expect(await w.troubles()).toBe('');
  });

  it('T6: with tsc as its clock source, the rate is within 100 ppm and nothing freezes', async () => {
    const w = world();
    const sources = '/sys/devices/system/clocksource/clocksource0';
    expect(await w.guest.command(`cat ${sources}/available_clocksource`)).toContain('tsc');
    await w.guest.command(`echo tsc >${sources}/current_clocksource`);
    expect(await w.guest.command(`cat ${sources}/current_clocksource`)).toBe('tsc\n');
    const { clock } = w.inner.domain;
    const first = { least: clock.now(), ...(await w.now()), most: clock.now() };
    // After 300 s, an error of 100 ppm is more than a command takes.
    for (let i = 0; i < 20; i++) {
      await w.move(undefined, { outageNs: 15 * SECOND });
      await w.guest.command('sleep 0.05');
    }
    const later = w.inner.domain.clock;
    const second = { least: later.now(), ...(await w.now()), most: later.now() };
    const seen = second.mono - first.mono;
    expect(seen).toBeGreaterThan((second.least - first.most) * (1 - 100e-6));
    expect(seen).toBeLessThan((second.most - first.least) * (1 + 100e-6));
    await expectForwards(w, () => w.move());
    await w.guest.command(`echo xen >${sources}/current_clocksource`);
    expect(await w.troubles()).toBe('');
  });

  it('T7: the wall clock is right after an outage under elapse, and late by exactly the outage under freeze', async () => {
    const w = world();
    const outageNs = 1000 * SECOND;
    const { real, before, after } = await w.now();
    await w.move(undefined, { outageNs, clock: 'elapse' });
    const elapsed = await w.now();
    // It is as late as before, by what earlier scenarios froze.
    expect(elapsed.before - elapsed.real).toBeLessThan(after - real + SECOND);
    expect(elapsed.after - elapsed.real).toBeGreaterThan(before - real - SECOND);
    const base = await wallBase(w);
    const { total } = w.inner.points.outage;
    await w.move(undefined, { outageNs, clock: 'freeze' });
    const frozen = await wallBase(w);
    expect(w.inner.points.outage.total - total).toBeGreaterThanOrEqual(outageNs);
    // Nothing was added to its clocks: their distance is the same as before.
    expect(frozen.most).toBeGreaterThanOrEqual(base.least);
    expect(frozen.least).toBeLessThanOrEqual(base.most);
    const late = await w.now();
    expect(late.after - late.real).toBeGreaterThan(elapsed.before - elapsed.real + outageNs - SECOND);
    expect(late.before - late.real).toBeLessThan(elapsed.after - elapsed.real + outageNs + SECOND);
  });

  it('T8: no disk or network request times out inside the guest during the outage', async () => {
    const w = world();
    const from = w.guest.text.length;
    w.guest.type(
      // Ping itself would wait for twice the longest round trip, and the outage may be a part of that.
      'ping -i 0.1 10.0.2.77 >/tmp/ping & for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/dev/xvda bs=64k count=16 conv=fsync 2>&1 | tail -n 1; done; kill -INT $!; wait; tail -n 2 /tmp/ping; echo "do""ne"\n',
    );
    for (const outageNs of [0, 90 * SECOND, 3600 * SECOND]) {
      await new Promise((done) => setTimeout(done, 150));
      await w.move(undefined, { outageNs });
    }
    const [, out] = await w.guest.until(/([\s\S]*)^done/m, 240, from);
    expect(out.match(/16\+0 records out/g)?.length).toBe(6);
    const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(out)!.map(Number);
    expect(received).toBeGreaterThanOrEqual(sent - 3);
    expect(await w.troubles()).toBe('');
  });
}
