import { describe, expect, it } from 'vitest';
import { TestHost } from '../../test/support/guest-on-host.js';
import { assemble } from '../asm/assembler.js';
import { wasmEngine } from '../engine/engines.js';
import type { Nanoseconds } from '../xen/types.js';
import { Guest } from './guest.js';
import { PRACTICE_BASE, PRACTICE_CODE, PRACTICE_SOURCE, practiceKernel } from './practice-kernel.js';
import { rehearse } from './rehearsal.js';

describe('the rehearsal of a move', () => {
  it('runs a kernel whose bytes are those that its source assembles to', () => {
    expect([...PRACTICE_CODE]).toEqual([...assemble(PRACTICE_SOURCE, BigInt(PRACTICE_BASE)).bytes]);
  });

  it('has a kernel that loops for ever and prints a letter each time', async () => {
    const host = new TestHost('A', 12);
    const awake = () => (host.uptimeNs += 10_000) as Nanoseconds;
    const image = { kernel: practiceKernel(), cmdline: '' };
    const spec = { name: 'practice', uuid: new Uint8Array(16), memoryMib: 4, vcpus: 1, image };
    let said = '';
    const guest = await Guest.powerOn(
      { ...spec, kernelName: '', ramdiskName: '' },
      Object.assign(host, { clock: { ...host.clock, awake } }),
      {
        engine: wasmEngine(),
        console: (bytes) => {
          said += new TextDecoder().decode(bytes);
          return true;
        },
        log: () => {},
        wake: () => {},
      },
    );
    await guest.attach();
    guest.start();
    for (let i = 0; i < 1000 && said.length < 10; i++) {
      expect(guest.run(2_000_000)).toEqual({ state: 'running' });
      await new Promise((done) => setImmediate(done));
    }
    expect(said).toMatch(/^\.{10,}$/);
    await guest.detach();
  });

  it('goes through a whole move and takes nothing of the host', async () => {
    const host = new TestHost('A', 12);
    // Each reading of the clock lets time pass, or a slice of the guest's life would never end.
    const awake = () => (host.uptimeNs += 10_000) as Nanoseconds;
    let breaths = 0;
    await rehearse(Object.assign(host, { clock: { ...host.clock, awake } }), wasmEngine(), async () => {
      breaths++;
    });
    expect(breaths).toBeGreaterThan(10);
    expect(host.written.size).toBe(0);
    expect(host.changed).toBeUndefined();
  });
});
