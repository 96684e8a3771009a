import { describe, expect, it } from 'vitest';
import { LinearMemory } from '../xen/memory.js';
import { FrameMap, LinearRam, PAGE } from './ram.js';

const GAPS = new FrameMap([
  { mfn: 0x10_0000, count: 1024 },
  { mfn: 0x10_0800, count: 512 },
  { mfn: 0x1_0000_0000, count: 3 },
]);

describe('a map of machine frames', () => {
  it.each([
    ['without gaps', FrameMap.whole(700)],
    ['with gaps', GAPS],
  ])('%s: every frame is found by its number and the number by the frame, and nothing else is', (_, map) => {
    const mfns = new Set<number>();
    for (let frame = 0; frame < map.frames; frame++) {
      const mfn = map.mfnOf(frame);
      mfns.add(mfn);
      expect(map.frameOf(mfn)).toBe(frame);
    }
    expect(mfns.size).toBe(map.frames);
    for (const mfn of [...mfns].flatMap((each) => [each - 1, each + 1]))
      if (!mfns.has(mfn)) expect(map.frameOf(mfn)).toBe(-1);
    for (const mfn of [-1, 0, 1, map.firstMfn - 1, map.endMfn, 2 ** 32, 2 ** 40, 2 ** 52, Number.NaN])
      if (!mfns.has(mfn)) expect(map.frameOf(mfn)).toBe(-1);
    expect(() => map.mfnOf(map.frames)).toThrow(RangeError);
    expect(Math.min(...mfns)).toBe(map.firstMfn);
    expect(Math.max(...mfns) + 1).toBe(map.endMfn);
  });

  it("begins where every guest's memory begins", () => {
    expect(FrameMap.whole(1).firstMfn).toBe(0x10_0000);
  });

  it.each([
    ['no run', []],
    ['an empty run', [{ mfn: 512, count: 0 }]],
    ['a run that begins within 2 MiB', [{ mfn: 513, count: 1 }]],
    [
      'a run that ends within 2 MiB, with another behind it',
      [
        { mfn: 512, count: 1 },
        { mfn: 1024, count: 1 },
      ],
    ],
    [
      'runs that overlap',
      [
        { mfn: 512, count: 1024 },
        { mfn: 1024, count: 1 },
      ],
    ],
    [
      'runs out of order',
      [
        { mfn: 1024, count: 512 },
        { mfn: 512, count: 512 },
      ],
    ],
  ])('has not %s', (_, runs) => {
    expect(() => new FrameMap(runs)).toThrow(RangeError);
  });
});

it('frames are placed in the order of their indexes, whatever their numbers', () => {
  const ram = new LinearRam(new LinearMemory(new ArrayBuffer((GAPS.frames + 2) * PAGE)), GAPS, PAGE);
  for (const frame of [0, 1023, 1024, 1535, 1536, 1538]) {
    expect(ram.linearOf(frame)).toBe(PAGE + frame * PAGE);
    expect(ram.address(ram.mfnOf(frame))).toBe(ram.linearOf(frame));
    expect(ram.frameAt(ram.linearOf(frame))).toBe(frame);
    expect(ram.frameAt(ram.linearOf(frame) + PAGE - 1)).toBe(frame);
  }
  expect(ram.address(0x10_0400)).toBe(-1);
  expect(ram.bytes(1024, 2)).toMatchObject({ byteOffset: ram.linearOf(1024), length: 2 * PAGE });
});
