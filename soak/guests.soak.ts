import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { MoveStats } from '../src/protocol/moves.js';
import { bootGrub, bootLinux, moveToAndFro, verdictOf, WILD } from '../test/e2e/moving-guests.js';
import { type TestHost, TwoHosts, until } from '../test/migration/hosts.js';
import { testPort } from '../test/support/ports.js';

const MOVES = Number(process.env['STILLPOINT_MOVES'] ?? 20);
/** MB/s of the link for busy guests: slower than the writer writes. */
const LINK = 20;

const linux = [1, 4].flatMap((vcpus) =>
  [false, true].flatMap((wild) => [false, true].map((busy) => ({ vcpus, wild, busy }))),
);

describe(`moved ${MOVES} times back and forth between unlike hosts`, () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_400), { runner: undefined });
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  it('GRUB at its prompt', async () => {
    await bootGrub(hosts, hosts.a, 'grub');
    await hosts.a.consoleOf('grub', 'set word=moved', /set word=moved/);
    const { stats, at } = await moveToAndFro(hosts, 'grub', MOVES);
    await at.consoleOf('grub', '\necho $word\n', /echo \$word[\s\S]*moved/);
    tell('GRUB', stats);
  });

  it.each(linux)('Linux: $vcpus processors, wild $wild, busy $busy', async ({ vcpus, wild, busy }) => {
    const name = `${wild ? 'wild' : 'friendly'}${vcpus}${busy ? 'busy' : 'idle'}`;
    await bootLinux(hosts, hosts.a, { name, vcpus, extra: wild ? WILD : '' });
    const writer = busy ? 'writer 24 again &\n' : '';
    await hosts.a.consoleOf(name, `${writer}observer 10 0\n`, /OBS START /, 600);
    const before = await gapWithoutMoves(hosts.a, name);
    const slow = busy ? { bandwidthMBs: LINK, maxRounds: 4, maxDowntimeMs: 30 } : {};
    let at = hosts.a;
    if (busy) {
      // Under `cancel` the guest stays where it is, and the message says so.
      const cancelled = hosts.a.ask('migrate', { guest: name, host: 'B', ...slow, onTimeout: 'cancel' });
      await expect(cancelled).rejects.toThrow(/rounds were not enough/);
      await until('what had arrived is gone', () => hosts.b.files('guests').length === 0 || undefined);
    }
    const moved = await moveToAndFro(hosts, name, MOVES, slow);
    at = moved.at;
    const verdict = await verdictOf(at, name);
    // The longest time between two readings of the clock is printed but not checked: besides the downtime it contains
    // the effect of this machine's load on the guest, above all while memory is copied and newly arrived code is
    // decoded.
    tell(name, moved.stats, { ...verdict, gapWithoutMovesMs: before });
    expect(verdict).toMatchObject({ cpus: vcpus, backwards: 0, differences: 0, right: true });
    if (busy) {
      expect(moved.stats.every((s) => s.stopReason === 'rounds')).toBe(true);
      expect(await at.consoleOf(name, '', /WRITER/)).not.toMatch(/WRITER round=\d+ bad=[1-9]/);
    }
  });
});

/** The longest time between two readings of the clock without a move, which is the effect of this machine's load. */
async function gapWithoutMoves(at: TestHost, name: string): Promise<number> {
  await at.consoleOf(name, 'r\n', /^/);
  await new Promise((done) => setTimeout(done, 5000));
  const { gapNs } = await verdictOf(at, name);
  await at.consoleOf(name, 'r\n', /^/);
  // The observer takes one key for each sample.
  await new Promise((done) => setTimeout(done, 3000));
  return gapNs / 1e6;
}

function tell(name: string, stats: readonly MoveStats[], verdict?: object): void {
  const downtimes = stats.map((s) => s.downtimeMs).sort((x, y) => x - y);
  const line = {
    name,
    moves: stats.length,
    downtimeMsMedian: downtimes[downtimes.length >> 1],
    downtimeMsMax: downtimes.at(-1),
    reasons: [...new Set(stats.map((s) => s.stopReason))],
    ...verdict,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
