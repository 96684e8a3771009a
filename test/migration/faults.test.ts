import { readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { testPort } from '../support/ports.js';
import { TwoHosts, until } from './hosts.js';

/** The steps at which a guest process can be held, in the order of a move, and which processes exist then. */
const STEPS = [
  'describe',
  'dirty-log',
  'construct',
  'round',
  'pause',
  'save-state',
  'restore-state',
  'attach',
  'start',
  'detach',
] as const;
type Step = (typeof STEPS)[number];
const FAULTS = [
  'source process',
  'source daemon',
  'destination process',
  'destination daemon',
  'connection',
] as const;
type Fault = (typeof FAULTS)[number];

/** From this step on the source has sent its offer, or the whole guest. */
const after = (step: Step, mark: Step): boolean => STEPS.indexOf(step) >= STEPS.indexOf(mark);

/** Where the guest must live in the end, and whether it is the same guest and not a restarted one. */
function expected(step: Step, fault: Fault): { on: 'A' | 'B'; same: boolean } {
  switch (fault) {
    case 'source process':
      // Everything was sent before the destination restores: the source's process is no longer needed.
      return after(step, 'restore-state') ? { on: 'B', same: true } : { on: 'A', same: false };
    case 'destination process':
      // The owner record is on disk before `start`.
      if (step === 'detach' || step === 'start') return { on: 'B', same: false };
      return { on: 'A', same: true };
    case 'source daemon':
    case 'destination daemon':
    case 'connection':
      return { on: after(step, 'attach') ? 'B' : 'A', same: true };
  }
}

describe('a move with a fault', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_100));
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  const kill = (pids: number[]): void => {
    for (const pid of pids) process.kill(pid, 'SIGKILL');
  };

  /** Counts how often a guest's process has told A's daemon that everything was sent. */
  const sent = (): number =>
    readFileSync(join(hosts.a.dir, 'daemon.log'), 'utf8').split('"to":"sent"').length - 1;

  async function strike(fault: Fault, step: Step, sentBefore: number): Promise<void> {
    const { a, b } = hosts;
    switch (fault) {
      case 'source process':
        // The destination may have everything before the source's daemon knows; if the source's process dies then, the
        // guest is lost.
        if (after(step, 'restore-state')) await until('all is sent', () => sent() > sentBefore || undefined);
        kill(a.pids());
        break;
      case 'destination process':
        kill(b.pids());
        break;
      case 'source daemon':
        await a.kill();
        hosts.openGate(step);
        await a.start();
        break;
      case 'destination daemon':
        await b.kill();
        hosts.openGate(step);
        await b.start();
        break;
      case 'connection':
        hosts.proxy.cut();
        break;
    }
    hosts.openGate(step);
  }

  const cases = STEPS.flatMap((step) =>
    FAULTS.map((fault) => ({ step, fault, ...expected(step, fault) })),
  ).filter(
    // These are left out: the process does not exist yet, or no longer.
    ({ step, fault }) => !(fault === 'destination process' && step === 'describe'),
  );

  it.each(cases)('$fault lost at $step: one live guest, on $on', async ({ step, fault, ...usual }) => {
    const { a, b } = hosts;
    const { name } = await hosts.guest('onCrash = "restart"');
    hosts.gate(step);
    const sentBefore = sent();
    const outcome = a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 }).then(
      () => 'moved',
      (error: Error) => error.message,
    );
    await hosts.reached(step);
    await strike(fault, step, sentBefore);
    const found = await hosts.settled(name);
    // A small guest fits into the sockets' buffers: on a busy machine all of it may be on its way before its process is
    // killed.
    const allSent = fault === 'source process' && sent() > sentBefore;
    const { on, same } = allSent ? { on: 'B' as const, same: true } : usual;
    expect({ on: found.on }).toEqual({ on });
    // It is still the same guest: its counter went on; a restarted one would not have counted the earlier rounds.
    expect(hosts.violations()).toEqual([]);
    const points = await (on === 'A' ? a : b).ask('points', { guest: name });
    if (same) expect(points[0].moves).toBe(on === 'B' ? 1 : 0);
    else expect(points[0].moves).toBe(0);
    await outcome;
    await nothingLeft();
    if (fault === 'connection') await movesAgain(name, on);
  });

  const nothingLeft = async (): Promise<void> => {
    expect([...hosts.a.files('guests'), ...hosts.b.files('guests')]).toHaveLength(1);
    await until('one guest process', () => hosts.processes().length === 1 || undefined);
    expect(hosts.violations()).toEqual([]);
  };

  const movesAgain = async (name: string, on: string): Promise<void> => {
    const [from, to] = on === 'A' ? [hosts.a, hosts.b] : [hosts.b, hosts.a];
    await from.ask('migrate', { guest: name, host: to.name, maxDowntimeMs: 1000 });
    expect((await hosts.settled(name)).on).toBe(to.name);
    expect(hosts.violations()).toEqual([]);
  };

  it.each([64, 5_000, 300_000, 1_500_000])(
    'whose data connection is cut after %i bytes leaves the guest where it was',
    async (bytes) => {
      const { name } = await hosts.guest();
      hosts.proxy.cutDataAfter = bytes;
      await expect(hosts.a.ask('migrate', { guest: name, host: 'B' })).rejects.toThrow('goes on here');
      hosts.proxy.cutDataAfter = undefined;
      expect((await hosts.settled(name)).on).toBe('A');
      await nothingLeft();
      await movesAgain(name, 'A');
    },
  );

  it('whose source cannot write the record of the hand-over leaves the guest where it was', async () => {
    const { name } = await hosts.guest();
    const handovers = join(hosts.a.dir, 'handovers');
    hosts.gate('round');
    const outcome = hosts.a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 });
    outcome.catch(() => {});
    await hosts.reached('round');
    renameSync(handovers, `${handovers}.away`);
    hosts.openGate('round');
    await expect(outcome).rejects.toThrow('cannot write the state of the hand-over');
    renameSync(`${handovers}.away`, handovers);
    expect((await hosts.settled(name)).on).toBe('A');
    await nothingLeft();
  });

  it('whose destination has a full disk for the owner record leaves the guest where it was', async () => {
    const { name } = await hosts.guest();
    hosts.gate('attach');
    const outcome = hosts.a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 });
    outcome.catch(() => {});
    await hosts.reached('attach');
    const [domid] = hosts.b.files('guests');
    symlinkSync('/dev/full', join(hosts.b.dir, 'guests', domid, 'owner.json.new'));
    hosts.openGate('attach');
    await expect(outcome).rejects.toThrow('goes on here');
    expect((await hosts.settled(name)).on).toBe('A');
    await nothingLeft();
    await movesAgain(name, 'A');
  });

  it('whose daemons have a full disk for their logs is not affected', async () => {
    const both = [hosts.a, hosts.b];
    for (const host of both) {
      await host.kill();
      await host.start(undefined, '/dev/full');
    }
    const { name } = await hosts.guest();
    await movesAgain(name, 'A');
    for (const host of both) {
      await host.kill();
      await host.start();
    }
    await nothingLeft();
  });

  it('whose source cannot record that the guest is gone remembers it until it can', async () => {
    const { name } = await hosts.guest();
    const handovers = join(hosts.a.dir, 'handovers');
    hosts.gate('start');
    const outcome = hosts.a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 });
    await hosts.reached('start');
    renameSync(handovers, `${handovers}.away`);
    hosts.openGate('start');
    // No hand-over is closed before its decision is on disk.
    await new Promise((done) => setTimeout(done, 600));
    expect(await hosts.a.list()).toHaveLength(1);
    renameSync(`${handovers}.away`, handovers);
    await outcome;
    expect((await hosts.settled(name)).on).toBe('B');
    await nothingLeft();
  });

  it('that no side can settle is settled by the operator', async () => {
    const { name } = await hosts.guest();
    hosts.gate('attach');
    const outcome = hosts.a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 });
    outcome.catch(() => {});
    await hosts.reached('attach');
    await hosts.b.kill();
    kill(hosts.b.pids());
    hosts.openGate('attach');
    await until(
      'the hand-over waits',
      async () => (await hosts.a.list())[0]?.state === '--p---' || undefined,
    );
    await expect(hosts.a.ask('unpause', { guest: name })).rejects.toThrow('is moving');
    await hosts.a.ask('settle', { guest: name, keep: true });
    await expect(outcome).rejects.toThrow('goes on here');
    await hosts.b.start();
    expect((await hosts.settled(name)).on).toBe('A');
    await nothingLeft();
  });
});

describe('a real kernel during a move with a fault', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_200), { runner: undefined });
    writeFileSync(join(hosts.root, 'kernel'), smallKernelElf());
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  const faults: [string, () => Promise<void>][] = [
    ['the connection is cut', async () => hosts.proxy.cut()],
    ['the source is killed', async () => hosts.a.kill().then(() => hosts.a.start())],
    ['the destination is killed', async () => hosts.b.kill().then(() => hosts.b.start())],
  ];

  it.each(faults)('notices nothing when %s at any time', async (_, strike) => {
    const config = `name = "small"\nkernel = "${join(hosts.root, 'kernel')}"\nmemory = 8\nextra = "interval_ms=10"\n`;
    await hosts.a.ask('create', { config, file: 'small.cfg', directory: hosts.root });
    let at = 'A';
    for (const afterMs of [30, 250]) {
      const [from, to] = at === 'A' ? [hosts.a, hosts.b] : [hosts.b, hosts.a];
      const outcome = from.ask('migrate', { guest: 'small', host: to.name }).catch(() => {});
      await new Promise((done) => setTimeout(done, afterMs));
      await strike();
      await outcome;
      at = (await hosts.settled('small')).on;
    }
    const host = at === 'A' ? hosts.a : hosts.b;
    const text = await host.consoleOf('small', 'v\n', /OBS VERDICT [^\n]*\n/);
    const [, back, diff] = /OBS VERDICT .* back=(\d+) diff=(\d+)/.exec(text)!.map(Number);
    expect({ back, diff }).toEqual({ back: 0, diff: 0 });
    expect([...hosts.a.files('guests'), ...hosts.b.files('guests')]).toHaveLength(1);
  });
});
