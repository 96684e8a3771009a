import { expect, it } from 'vitest';
import { type CpuEngine, FrameMap, PAGE } from '../../engine/engine.js';
import { LinearRam } from '../../engine/ram.js';
import { LinearMemory } from '../../xen/memory.js';
import { M2p, m2pFrames } from './m2p.js';

/** Memory with gaps; the frames of the machine-to-physical table itself are the last run. */
const MAP = new FrameMap([
  { mfn: 0x10_0000, count: 1024 },
  { mfn: 0x10_1000, count: 512 },
  { mfn: 0x40_0000, count: 40 },
]);
const OWN = 1536;

const table = (whole: boolean) => {
  const ram = new LinearRam(new LinearMemory(new ArrayBuffer(MAP.frames * PAGE)), MAP, 0);
  const { data } = m2pFrames(MAP, whole);
  const m2p = new M2p({ ram, touch: () => undefined } as unknown as CpuEngine, OWN, OWN + data, whole);
  m2p.create();
  for (let frame = 0; frame < MAP.frames; frame++) m2p.set(frame, frame, 0);
  /**
   * Reads the entry of a machine frame as a processor does, starting at the L3 table. Undefined: nothing is mapped
   * there.
   */
  const read = (mfn: number): bigint | undefined => {
    let at = m2p.l3Mfn;
    const page = Math.floor(mfn / 512);
    for (const index of [Math.floor(page / 512 ** 2), Math.floor(page / 512) % 512, page % 512]) {
      const entry = ram.mem.getBig(ram.address(at) + 8 * index);
      if ((entry & 1n) === 0n) return undefined;
      expect(entry & 0x8000_0000_0000_0fffn).toBe(0x8000_0000_0000_0025n);
      at = Number((entry >> 12n) & 0xff_ffff_ffffn);
    }
    return ram.mem.getBig(ram.address(at) + 8 * (mfn % 512));
  };
  return { m2p, ram, read, data };
};
const NONE = 2n ** 64n - 1n;

it('has an entry for every frame of a memory with gaps, and nothing in between', () => {
  for (const whole of [true, false]) {
    const { m2p, ram, read, data } = table(whole);
    for (let frame = 0; frame < MAP.frames; frame++) {
      expect(read(ram.mfnOf(frame))).toBe(BigInt(frame));
      expect(m2p.get(frame)).toBe(frame);
      expect(m2p.pageOf(ram.mfnOf(frame))).toBe(OWN + Math.floor(frame / 512));
    }
    for (const mfn of [
      0, 0xf_ffff, 0x10_0400, 0x10_0fff, 0x10_1200, 0x20_0000, 0x3f_ffff, 0x40_0200, 0x43_ffff,
    ])
      expect(read(mfn)).toBe(whole ? NONE : undefined);
    expect(read(0x40_0000 + 40)).toBe(NONE);
    expect(read(0x44_0000)).toBeUndefined();
    expect(data).toBe(4);
  }
});

it('reports frames that are too far apart for one table', () => {
  expect(() => m2pFrames(new FrameMap([{ mfn: 2 ** 27, count: 1 }]), true)).toThrow(RangeError);
});
