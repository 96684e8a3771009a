import { describe, expect, it } from 'vitest';
import { TestGuest, TestHost } from '../../test/support/guest-on-host.js';
import { programKernel } from '../../test/support/program-kernel.js';
import { Runstate } from '../hypervisor/vcpu/vcpu-context.js';
import { VcpuInfo } from '../xen/shared-info.js';
import type { ClockPolicy, OutageBounds, OutageTerms } from './points/outage.js';

const MS = 1e6;
const S = 1e9;
const DAY = 86_400 * S;
const YEAR_2026 = 1.767e18;

function hosts(): { a: TestHost; b: TestHost } {
  const a = new TestHost('A', 12);
  const b = new TestHost('B', 3001);
  a.uptimeNs = 500 * DAY;
  a.wallNs = YEAR_2026;
  b.uptimeNs = 7 * S;
  b.wallNs = YEAR_2026;
  return { a, b };
}

interface Move {
  readonly clock?: ClockPolicy;
  /** How long the guest is stopped, by true time. */
  readonly outage: number;
  readonly terms?: OutageTerms;
  readonly bounds?: OutageBounds;
  readonly hostTime?: boolean;
}

/** A small guest that runs on A for 100 ms and then moves to B. */
async function moved({ clock, outage, terms, bounds, hostTime }: Move, both = hosts()) {
  const { a, b } = both;
  const here = await TestGuest.on(a, { clock, hostTime });
  here.guest.start();
  if (hostTime === true) a.pass(100 * MS);
  else here.run(100 * MS);
  await here.guest.pause();
  const before = snapshot(here);
  a.pass(outage);
  b.pass(100 * MS + outage);
  const there = await here.arriveOn(b, terms, bounds);
  there.guest.start();
  return { there, before, after: snapshot(there) };
}

const snapshot = ({ guest }: TestGuest) => {
  const [v] = guest.domain.state.vcpus;
  return {
    time: guest.domain.clock.now(),
    wall: guest.wallClock(),
    runstate: v.runstate,
    entry: v.runstateEntry,
    spent: [...v.runstateTime],
    deadline: v.singleshot,
    pending: guest.domain.state.mem.getU8(v.vcpuInfo + VcpuInfo.evtchn_upcall_pending),
  };
};

describe('the system time of a guest that moves', () => {
  it('advances by the outage on a host whose uptime is lower', async () => {
    const { there, before, after } = await moved({ outage: 40 * MS });
    expect(after.time - before.time).toBe(40 * MS);
    there.run(100 * MS);
    there.type('v\n');
    there.run(20 * MS);
    expect(there.latest()).toMatchObject({ back: 0, diff: 0 });
    expect(there.latest().gap).toBeLessThanOrEqual(41 * MS);
  });

  it('does not advance under freeze', async () => {
    const { there, before, after } = await moved({ clock: 'freeze', outage: 40 * MS });
    expect(after.time).toBe(before.time);
    there.run(100 * MS);
    there.type('v\n');
    there.run(20 * MS);
    expect(there.latest().gap).toBeLessThan(2 * MS);
  });

  it('follows the policy that the move was given, and its own policy for the next move', async () => {
    const { there, before, after } = await moved({ outage: 40 * MS, terms: { clock: 'freeze' } });
    expect(after.time).toBe(before.time);
    await there.guest.pause();
    const at = there.guest.domain.clock.now();
    there.host.pass(5 * S);
    there.guest.start();
    expect(there.guest.domain.clock.now() - at).toBe(5 * S);
  });

  it.each([
    ['is behind', -3600 * S],
    ['is ahead', 3600 * S],
    ['is at its beginning', -YEAR_2026],
    ['is in the year 2301', 275 * 365 * DAY],
  ])('is right where the wall clock of the next host %s', async (_, skew) => {
    const both = hosts();
    both.b.wallNs += skew;
    const bounds = { least: 30 * MS, most: 100 * MS };
    const { before, after } = await moved({ outage: 40 * MS, bounds, hostTime: true }, both);
    expect(after.time - before.time).toBeGreaterThanOrEqual(30 * MS);
    expect(after.time - before.time).toBeLessThanOrEqual(100 * MS);
    expect(after.wall).toBeGreaterThanOrEqual(before.wall);
    if (skew > 0) expect(Math.abs(after.wall - both.b.wallNs)).toBeLessThan(S);
  });

  it('is exact where the daemons have measured how far their clocks are apart', async () => {
    const both = hosts();
    both.b.wallNs += 17 * S;
    const { before, after } = await moved({ outage: 40 * MS, terms: { clockDifference: 17 * S } }, both);
    expect(after.time - before.time).toBe(40 * MS);
  });

  it.each(['elapse', 'freeze'] as const)(
    'is usable after it was stopped for a virtual day, under both policies: %s',
    async (clock) => {
      const { there, before, after } = await moved({ clock, outage: DAY });
      expect(after.time - before.time).toBe(clock === 'elapse' ? DAY : 0);
      const { n } = there.latest();
      there.run(600 * MS);
      there.type('v\n');
      there.run(20 * MS);
      expect(there.latest()).toMatchObject({ back: 0, diff: 0 });
      expect(there.latest().n).toBeGreaterThan((n || 0) + 40);
    },
  );

  it('advances, after a pause or a move, by the rest of a long stop that had passed only in part', async () => {
    const { a, b } = hosts();
    const here = await TestGuest.on(a);
    here.guest.start();
    here.run(50 * MS);
    const at = here.guest.domain.clock.now();
    await here.guest.pause();
    a.pass(DAY);
    b.pass(DAY + 50 * MS);
    const computes = ({ guest }: TestGuest): void => {
      guest.domain.state.vcpus[0].blocked = false;
    };
    for (const hours of [1, 2, 3]) {
      computes(here);
      here.guest.start();
      expect(here.guest.domain.clock.now() - at).toBe(hours * 3600 * S);
      await here.guest.pause();
    }
    const there = await here.arriveOn(b);
    there.guest.start();
    // A timer has woken the guest. When it sleeps again, the rest passes at once.
    expect(there.guest.domain.clock.now() - at).toBe(4 * 3600 * S);
    there.run(300 * MS);
    expect(there.guest.domain.clock.now() - at).toBeGreaterThanOrEqual(DAY);
    expect(there.guest.domain.clock.now() - at).toBeLessThan(DAY + S);
    expect(Math.abs(there.guest.points.outage.total - DAY)).toBeLessThan(MS);
  });

  it.each(['elapse', 'freeze'] as const)(
    'goes on by what was left of a long stop, though the move that comes amid it is a short outage, under %s',
    async (clock) => {
      const { a, b } = hosts();
      const here = await TestGuest.on(a);
      here.guest.start();
      here.run(50 * MS);
      const at = here.guest.domain.clock.now();
      await here.guest.pause();
      a.pass(DAY);
      b.pass(DAY + 50 * MS);
      here.guest.domain.state.vcpus[0].blocked = false;
      here.guest.start();
      expect(here.guest.domain.clock.now() - at).toBe(3600 * S);
      await here.guest.pause();
      // The destination knows from the daemons that the guest ran a second ago.
      const there = await here.arriveOn(b, { clock }, { least: 0, most: S });
      there.guest.start();
      there.run(300 * MS);
      expect(there.guest.domain.clock.now() - at).toBeGreaterThanOrEqual(DAY);
      expect(there.guest.domain.clock.now() - at).toBeLessThan(DAY + 2 * S);
      expect(Math.abs(there.guest.points.outage.total - DAY)).toBeLessThan(2 * S);
    },
  );

  it('advances by the time for which it was paused', async () => {
    const { a } = hosts();
    const here = await TestGuest.on(a);
    here.guest.start();
    here.run(50 * MS);
    await here.guest.pause();
    const before = here.guest.domain.clock.now();
    a.pass(3 * S);
    // Meanwhile somebody sets the host's wall clock.
    a.wallNs -= 1000 * S;
    here.guest.start();
    expect(here.guest.domain.clock.now() - before).toBe(3 * S);
  });
});

describe('a guest whose process, or whose host, was stopped', () => {
  it.each([
    ['elapse', 40 * S],
    ['freeze', 0],
  ] as const)('has that counted as one outage, under %s', async (clock, seen) => {
    const { a } = hosts();
    a.clock.awake = () => {
      a.pass(2000);
      return a.uptimeNs as ReturnType<typeof a.clock.uptime>;
    };
    const { guest } = await TestGuest.on(a, { clock, hostTime: true });
    guest.start();
    for (let i = 0; i < 20; i++) guest.run(2 * MS);
    const before = { time: guest.domain.clock.now(), uptime: a.uptimeNs };
    a.pass(40 * S);
    for (let i = 0; i < 20; i++) guest.run(2 * MS);
    const passed = a.uptimeNs - before.uptime - 40 * S;
    // The guest slept and was to wake within 10 ms, which is how exact the figure can be.
    expect(Math.abs(guest.points.outage.total - 40 * S)).toBeLessThan(11 * MS);
    const after = guest.domain.clock.now() - before.time;
    expect(Math.abs(after - seen - passed)).toBeLessThan(11 * MS);
    expect(Math.abs(guest.wallClock() - a.wallNs)).toBeLessThan(S);
  });
});

describe('a guest whose helper was suspended, saved or moved as a whole', () => {
  it.each([
    ['elapse', 'short', 300 * MS],
    ['elapse', 'long', 40 * S],
    ['freeze', 'short', 300 * MS],
    ['freeze', 'long', 40 * S],
  ] as const)('has that counted once, exactly, under %s, however %s', async (clock, _, outage) => {
    const { a } = hosts();
    const { guest } = await TestGuest.on(a, { clock, hostTime: true });
    guest.start();
    guest.run(2 * MS);
    const before = guest.domain.clock.now();
    a.suspend(outage);
    for (let i = 0; i < 5; i++) guest.run(2 * MS);
    expect(guest.points.outage.total).toBe(outage);
    expect(guest.domain.clock.now() - before).toBe(clock === 'elapse' ? outage : 0);
    expect(Math.abs(guest.wallClock() - a.wallNs)).toBeLessThan(MS);
  });

  it('has a suspend while it was stopped counted with that outage, not twice', async () => {
    const { a } = hosts();
    const { guest } = await TestGuest.on(a, { hostTime: true });
    guest.start();
    const before = guest.domain.clock.now();
    await guest.pause();
    a.pass(S);
    a.suspend(5 * S);
    guest.start();
    guest.run(2 * MS);
    expect(guest.domain.clock.now() - before).toBe(6 * S);
    expect(guest.points.outage.total).toBe(6 * S);
  });

  it.each([
    ['runs', 5 * S],
    ['is stopped', 0],
  ] as const)('has that counted, while it %s, before anybody is told', async (state, counted) => {
    const { a } = hosts();
    const told: number[] = [];
    const here = await TestGuest.on(a, {
      hostTime: true,
      moved: () => told.push(here.guest.points.outage.total),
    });
    here.guest.start();
    if (state === 'is stopped') await here.guest.pause();
    a.suspend(5 * S);
    a.changed?.(true);
    expect(told).toEqual([counted]);
    if (state === 'is stopped') here.guest.start();
    here.guest.run(2 * MS);
    expect(here.guest.points.outage.total).toBe(5 * S);
  });

  it('sees no difference, and its ledger has a column for each place', async () => {
    const { a } = hosts();
    let woken = 0;
    const here = await TestGuest.on(a, { woken: () => woken++ });
    here.guest.start();
    here.run(100 * MS);
    const inner = new Map(here.guest.ledgerRows().map((row) => [row.name, row.inner]));
    for (const domid of [13, 14]) {
      a.suspend(3 * S);
      a.domid = domid as typeof a.domid;
      a.changed?.(false);
      a.changed?.(true);
      here.run(100 * MS);
    }
    expect(woken).toBeGreaterThanOrEqual(4);
    const columns = here.guest.ledger.columns();
    expect(columns.map(({ domid, outer }) => [domid, outer['domain id']])).toEqual([
      [12, '12'],
      [13, '13'],
      [14, '14'],
    ]);
    for (const name of ['domain id', 'TSC', 'event channel: store', 'xenstore: tree'])
      expect(here.guest.ledgerRows().find((row) => row.name === name)?.inner).toBe(inner.get(name));
    here.type('v\n');
    here.run(20 * MS);
    expect(here.latest()).toMatchObject({ back: 0, diff: 0 });
    for (let i = 0; i < 40; i++) a.changed?.(true);
    expect(columns.length).toBeLessThanOrEqual(16);
    expect(columns[0].domid).toBe(12);
  });
});

describe('what is counted in system time', () => {
  it('a timer that came due during the outage fires once after it', async () => {
    const { there, before, after } = await moved({ outage: 40 * MS });
    expect(before.deadline - before.time).toBeLessThanOrEqual(10 * MS);
    expect(before.pending).toBe(0);
    // The timer has fired when the guest begins to run, and is not armed any more.
    expect(after.pending).toBe(1);
    expect(after.deadline).toBe(Number.POSITIVE_INFINITY);
    const counted = there.guest.domain.clock.now();
    there.run(30 * MS);
    there.type('v\n');
    there.run(10 * MS);
    // The guest takes one sample for the timer that was due, and then one each 10 ms.
    expect(there.guest.domain.clock.now() - counted).toBeGreaterThanOrEqual(40 * MS);
    expect(there.latest().back).toBe(0);
  });

  it('counts the outage as time in which its vCPU was runnable', async () => {
    const { before, after } = await moved({ outage: 40 * MS });
    expect(before.runstate).toBe(Runstate.blocked);
    expect(after.runstate).toBe(Runstate.runnable);
    // The vCPU was blocked until its timer came due, and has been runnable since.
    expect(after.entry).toBe(before.deadline);
    expect(after.spent[Runstate.blocked] - before.spent[Runstate.blocked]).toBe(
      before.deadline - before.entry,
    );
    const sum = after.spent.reduce((a, b) => a + b, 0) + (after.time - after.entry);
    const earlier = before.spent.reduce((a, b) => a + b, 0) + (before.time - before.entry);
    expect(sum - earlier).toBe(40 * MS);
  });
});

describe('the wall clock of a guest that moves', () => {
  it('follows a host whose clock is ahead, and never goes back', async () => {
    const both = hosts();
    both.b.wallNs += 100 * S;
    const ahead = await moved({ clock: 'freeze', outage: 40 * MS, hostTime: true }, both);
    expect(ahead.after.wall - ahead.before.wall).toBeGreaterThan(100 * S);
    const back = hosts();
    back.b.wallNs -= 100 * S;
    const behind = await moved({ clock: 'freeze', outage: 40 * MS, hostTime: true }, back);
    expect(behind.after.wall).toBe(behind.before.wall);
  });

  it.each(['elapse', 'freeze'] as const)('is true after a virtual day under %s', async (clock) => {
    const { there, after } = await moved({ clock, outage: DAY, hostTime: true });
    expect(Math.abs(after.wall - there.host.wallNs)).toBeLessThan(S);
  });

  it('is ahead of true time by as much as at power-on, on every host', async () => {
    const { a, b } = hosts();
    const here = await TestGuest.on(a, { hostTime: true, clockOffsetS: -7200 });
    const off = ({ guest, host }: TestGuest): number => guest.wallClock() - host.wallNs;
    expect(Math.abs(off(here) + 7200 * S)).toBeLessThan(MS);
    here.guest.start();
    await here.guest.pause();
    b.wallNs = a.wallNs + 100 * S;
    const there = await here.arriveOn(b);
    there.guest.start();
    expect(Math.abs(off(there) + 7200 * S)).toBeLessThan(MS);
  });

  it("stays as it was if the guest's time counts instructions", async () => {
    const { before, after } = await moved({ clock: 'freeze', outage: 40 * MS });
    expect(after.wall).toBe(before.wall);
  });
});

describe('the xenstore of a guest', () => {
  const write = (g: TestGuest, path: string, value: string): void =>
    g.guest.store.server.local(1).write(`/local/domain/1/${path}`, value);

  it('shows on the host what the guest writes, under the id of that host', async () => {
    const { a, b } = hosts();
    const here = await TestGuest.on(a);
    here.guest.start();
    write(here, 'data/one', 'first');
    write(here, 'data/path', '/local/domain/1/data/one');
    expect(a.written.get('data/one')).toBe('first');
    expect(a.written.get('data/path')).toBe('/local/domain/12/data/one');
    here.guest.store.server.local(1).remove('/local/domain/1/data/one');
    expect(a.written.get('data/one')).toBe(null);
    // Nodes that the toolstack wrote for the guest's own use are not shown on the host.
    expect([...a.written.keys()].filter((path) => /port|ring-ref|^domid$/.test(path))).toEqual([]);
    await here.guest.pause();
    const there = await here.arriveOn(b);
    expect(b.written.get('data/path')).toBe('/local/domain/3001/data/one');
    write(there, 'data/two', 'second');
    expect(b.written.get('data/two')).toBe('second');
    expect(a.written.has('data/two')).toBe(false);
  });

  it('passes a request to shut down on from a tool on the host, but no request to suspend', async () => {
    const { a } = hosts();
    const here = await TestGuest.on(a);
    here.guest.start();
    const asked = (): string => here.guest.store.dom0.read('/local/domain/1/control/shutdown');
    a.listener?.({ path: 'control/shutdown', value: 'suspend' });
    expect(asked()).toBe('');
    a.listener?.({ path: 'control/shutdown', value: 'poweroff' });
    expect(asked()).toBe('poweroff');
  });

  it('passes on which vCPUs a tool on the host wants online, but not those that the guest does not have', async () => {
    const { a } = hosts();
    const { guest } = await TestGuest.on(a);
    guest.start();
    const { dom0 } = guest.store;
    expect(dom0.read('/local/domain/1/cpu/0/availability')).toBe('online');
    a.listener?.({ path: 'cpu/0/availability', value: 'perhaps' });
    expect(dom0.read('/local/domain/1/cpu/0/availability')).toBe('online');
    a.listener?.({ path: 'cpu/0/availability', value: 'offline' });
    expect(dom0.read('/local/domain/1/cpu/0/availability')).toBe('offline');
    a.listener?.({ path: 'cpu/7/availability', value: 'online' });
    expect(dom0.exists('/local/domain/1/cpu/7')).toBe(false);
  });

  it('passes on how much memory a tool on the host wants the guest to have, and keeps that through a move', async () => {
    const { a, b } = hosts();
    const here = await TestGuest.on(a);
    here.guest.start();
    const target = (g: TestGuest): string => g.guest.store.dom0.read('/local/domain/1/memory/target');
    const before = target(here);
    for (const value of ['', '-1', 'all', '1e6', null]) a.listener?.({ path: 'memory/target', value });
    a.listener?.({ path: 'memory/static-max', value: '4096' });
    expect(target(here)).toBe(before);
    expect(here.guest.store.dom0.read('/local/domain/1/memory/static-max')).not.toBe('4096');
    let told = 0;
    const watch = here.guest.store.dom0.watch('/local/domain/1/memory/target', () => told++);
    a.listener?.({ path: 'memory/target', value: '6144' });
    expect(target(here)).toBe('6144');
    expect(told).toBe(2);
    watch.stop();
    await here.guest.pause();
    const there = await here.arriveOn(b);
    there.guest.start();
    expect(target(there)).toBe('6144');
    b.listener?.({ path: 'memory/target', value: '7168' });
    expect(target(there)).toBe('7168');
  });

  it('gets no request written into it by a move', async () => {
    const { there } = await moved({ outage: 40 * MS });
    expect(there.guest.store.dom0.read('/local/domain/1/control/shutdown')).toBe('');
  });
});

describe('the console of a guest', () => {
  it('is told before its first instruction that its console is connected, and on every host after that', async () => {
    const { a, b } = hosts();
    // The kernel prints the connection byte of the console page, which is two pages after start_info, again
    // and again.
    const kernel = programKernel(`
    again:
      movzx eax, byte [r15+0x2000+3088]
      call hex
      mov ecx, 1000000
    wait:
      dec ecx
      jnz wait
      jmp again
    `);
    const connection = (g: TestGuest) =>
      g.guest.ledgerRows().find((row) => row.name === 'console connection');
    const here = await TestGuest.on(a, { kernel });
    expect(connection(here)).toMatchObject({ inner: 'connected', outer: 'connected' });
    here.guest.start();
    here.run(20 * MS);
    await here.guest.pause();
    const there = await here.arriveOn(b);
    there.guest.start();
    there.run(20 * MS);
    expect(connection(there)).toMatchObject({ inner: 'connected', outer: 'connected' });
    for (const { output } of [here, there]) expect(output).toMatch(/^(0{16}){5,}$/);
  });
});

describe('the ledger', () => {
  it('has one row for each point, and constant points have the same inner value on every host', async () => {
    const { a, b } = hosts();
    a.pretended = new Set(['domid', 'ports', 'tscKhz']);
    const here = await TestGuest.on(a);
    here.guest.start();
    here.run(20 * MS);
    await here.guest.pause();
    const before = here.guest.ledgerRows();
    const pretended = (rows: typeof before) => rows.filter((row) => row.pretended).map(({ name }) => name);
    expect(pretended(before)).toEqual([
      'domain id',
      'event channel: store',
      'event channel: console',
      'TSC',
      'xenstore: tree',
      'xenstore: permissions and order',
    ]);
    const there = await here.arriveOn(b);
    const after = there.guest.ledgerRows();
    // Host B gives outer values as a real Xen does, so that none is pretended.
    expect(pretended(after)).toEqual([]);
    expect(new Set(before.map((r) => r.name)).size).toBe(before.length);
    const moving = new Set(['system time', 'wall clock', 'outage', 'CMOS clock', 'runstate', 'timers']);
    for (const [i, row] of after.entries()) {
      if (!moving.has(row.name)) expect(row.inner, row.name).toBe(before[i].inner);
      expect(row.outer, row.name).not.toBe('(not attached)');
    }
    const outer = (rows: typeof before, name: string) => rows.find((r) => r.name === name)?.outer;
    expect([outer(before, 'domain id'), outer(after, 'domain id')]).toEqual(['12', '3001']);
    expect(here.guest.ledgerRows().every((r) => ['(not attached)'].includes(r.outer))).toBe(true);
  });
});
