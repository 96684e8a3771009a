import { describe, expect, it } from 'vitest';
import { debian, haveDebian, work } from './guests.js';
import { prove } from './proof.js';

const END_NS = 60e9;

describe.skipIf(!haveDebian())('a guest that was moved', () => {
  it('ends in the same state as its twin that stayed: memory, processors, xenstore, console, byte for byte', async () => {
    const result = await prove({ spec: debian(2), cues: work(1), endNs: END_NS, moves: 14, seed: 2026 });
    expect(result.still.ended).toMatchObject({ reason: 'poweroff' });
    expect(result.still.output).toContain('joined');
    expect(result.moved.moves).toBe(14);
    expect(result.difference).toBeUndefined();
  }, 300_000);
});
