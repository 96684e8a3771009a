import { describe, expect, it } from 'vitest';
import { TestHost } from '../../test/support/guest-on-host.js';
import { assemble } from '../machine/assembler.js';
import type { Nanoseconds } from '../xen/types.js';
import { PRACTICE_BASE, PRACTICE_CODE, PRACTICE_SOURCE } from './practice-kernel.js';
import { rehearse } from './rehearsal.js';

describe('the rehearsal of a move', () => {
  it('runs a kernel that is what its source says', () => {
    expect([...PRACTICE_CODE]).toEqual([...assemble(PRACTICE_SOURCE, BigInt(PRACTICE_BASE)).bytes]);
  });

  it('goes through a move to its end and takes nothing of the host', async () => {
    const host = new TestHost('A', 12);
    // Time passes with each look at the clock, or a slice of its life would never end.
    const uptime = () => (host.uptimeNs += 10_000) as Nanoseconds;
    let breaths = 0;
    await rehearse(Object.assign(host, { clock: { ...host.clock, uptime } }), async () => {
      breaths++;
    });
    expect(breaths).toBeGreaterThan(10);
    expect(host.written.size).toBe(0);
  });
});
