import { describe, expect, it } from 'vitest';
import { debian, haveDebian, work } from './guests.js';
import { PLACES } from './points.js';
import { prove } from './proof.js';

const END_NS = 60e9;

describe.skipIf(!haveDebian())('a guest that was moved', () => {
  it('ends in the same state as its twin that stayed: memory, processors, xenstore, disk, console, byte for byte', async () => {
    const result = await prove({
      spec: debian(2),
      cues: work(1),
      endNs: END_NS,
      moves: PLACES.length,
      seed: 2026,
    });
    expect(result.still.ended).toMatchObject({ reason: 'poweroff' });
    expect(result.still.output).toContain('joined');
    expect(result.moved.moves).toBe(PLACES.length);
    // Each kind of place was reached, and requests were in flight.
    expect(Object.fromEntries(result.places)).toEqual(
      Object.fromEntries(PLACES.map(({ name }) => [name, 1])),
    );
    expect(result.moved.outside.disk.again).toBeGreaterThan(0);
    expect(result.moved.outside.net.answered).toBeGreaterThan(4);
    expect(result.difference).toBeUndefined();
  }, 300_000);
});
