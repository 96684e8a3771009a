import { beforeEach, describe, expect, it } from 'vitest';
import { CallingGuest, DATA, L1, mfn } from '../../../test/support/tiny-guest.js';
import { EFAULT, EINVAL, ENOSYS, EPERM } from '../../xen/errno.js';

const SELF = 0x7ff0;
const OWN = 7;
const WINDOW = 0x60_0000;
let c: CallingGuest;
beforeEach(async () => {
  c = await CallingGuest.boot();
});
const words = (...all: number[]): void => {
  for (const [i, word] of all.entries()) c.guest.setU32(DATA + 4 * i, word);
};
const op = (command: number, ...all: number[]): number => {
  words(...all);
  return c.call(20, command, DATA, 1);
};
const s16 = (va: number): number => (c.guest.u32(va & ~3) << (va & 2 ? 0 : 16)) >> 16;
const entry = (ref: number): number => {
  const { state, layout } = c.guest.domain;
  return state.mem.getU32(state.engine.ram.linearOf(layout.grants) + 8 * ref);
};
const FLAGS_OF = { permit: 1, readonly: 4, reading: 8, writing: 16 };
const grant = (ref: number, frame: number, domid = OWN, flags = 1): void => {
  const { state, layout } = c.guest.domain;
  const at = state.engine.ram.linearOf(layout.grants) + 8 * ref;
  state.mem.setU32(at, flags | (domid << 16));
  state.mem.setU32(at + 4, mfn(frame));
};
/** Maps one of the guest's own grants at WINDOW. Returns status and handle. */
const map = (ref: number, flags: number, domid = OWN): [number, number] => {
  expect(op(0, WINDOW, 0, flags, ref, domid, 0, 0, 0)).toBe(0);
  return [s16(DATA + 18), c.guest.u32(DATA + 20)];
};
const unmap = (handle: number, va = WINDOW): number => {
  expect(op(1, va, 0, 0, 0, handle, 0)).toBe(0);
  return s16(DATA + 20);
};
const HOST = 2;
const READONLY = 4;

describe('the grant table', () => {
  it('grows to 64 frames, which the guest can map', () => {
    expect(op(6, SELF, 0, 0, 0)).toBe(0);
    expect([c.guest.u32(DATA + 4), c.guest.u32(DATA + 8), s16(DATA + 12)]).toEqual([1, 64, 0]);
    expect(op(2, SELF, 3, 0, 0, DATA + 256, 0)).toBe(0);
    expect(s16(DATA + 8)).toBe(0);
    const first = mfn(c.guest.domain.layout.grants);
    expect([0, 1, 2].map((i) => c.guest.s64(DATA + 256 + 8 * i))).toEqual([first, first + 1, first + 2]);
    expect(c.call(14, WINDOW, first * 4096 + 7, 0)).toBe(0);
    expect(op(2, SELF, 65, 0, 0, DATA + 256, 0)).toBe(0);
    expect(s16(DATA + 8)).toBe(-1);
    expect(op(2, 0, 1, 0, 0, DATA + 256, 0)).toBe(0);
    expect(s16(DATA + 8)).toBe(-8);
  });

  it('has version 1 and keeps it', () => {
    expect(op(10, SELF, 0)).toBe(0);
    expect(c.guest.u32(DATA + 4)).toBe(1);
    expect(op(8, 2)).toBe(-ENOSYS);
    expect(c.guest.u32(DATA)).toBe(1);
    expect(op(8, 1)).toBe(0);
    expect(op(8, 3)).toBe(-EINVAL);
    expect(op(10, 0, 0)).toBe(-EPERM);
    expect(op(9, 1, SELF, DATA + 256, 0)).toBe(0);
    expect(s16(DATA + 6)).toBe(-1);
    expect(op(99)).toBe(-ENOSYS);
    expect(c.call(20, 6, 0x90_0000, 1)).toBe(-EFAULT);
    expect(c.call(20, 6, DATA, -1)).toBe(-EINVAL);
  });
});

describe("a guest's own grants", () => {
  it('can be mapped and unmapped, which sets and clears their flags', () => {
    grant(9, 0x70);
    c.guest.setU64(0x70 * 4096, 1234);
    const [status, handle] = map(9, HOST);
    expect(status).toBe(0);
    expect(entry(9) & 0xffff).toBe(FLAGS_OF.permit | FLAGS_OF.reading | FLAGS_OF.writing);
    const { state } = c.guest.domain;
    expect(state.mem.getU64(state.engine.translate(0, WINDOW, 1))).toBe(1234);
    expect(unmap(handle)).toBe(0);
    expect(entry(9) & 0xffff).toBe(FLAGS_OF.permit);
    expect(state.engine.translate(0, WINDOW, 0)).toBe(-1);
    expect(unmap(handle)).toBe(-4);
  });

  it('that are read-only, for another domain, or invalid are not mapped', () => {
    grant(9, 0x70, OWN, FLAGS_OF.permit | FLAGS_OF.readonly);
    expect(map(9, HOST)[0]).toBe(-1);
    expect(map(9, HOST | READONLY)[0]).toBe(0);
    grant(10, 0x70, 0);
    expect(map(10, HOST)[0]).toBe(-1);
    expect(map(11, HOST)[0]).toBe(-1);
    expect(map(100_000, HOST)[0]).toBe(-3);
    expect(map(9, HOST, 3)[0]).toBe(-2);
    expect(map(9, 0)[0]).toBe(-3);
    grant(12, L1);
    expect(map(12, HOST)[0]).toBe(-1);
    expect(map(12, HOST | READONLY)[0]).toBe(0);
    grant(13, -5);
    expect(map(13, HOST)[0]).toBe(-9);
  });

  it('that are mapped writable cannot become page tables', () => {
    c.guest.domain.state.mem.u8.fill(
      0,
      c.guest.domain.state.ram.linearOf(0x70),
      c.guest.domain.state.ram.linearOf(0x71),
    );
    grant(9, 0x70);
    const [, handle] = map(9, HOST);
    for (const [i, w] of [0, mfn(0x70)].entries()) c.guest.setU64(DATA + 8 * i, w);
    expect(c.call(26, DATA, 1, 0, SELF)).toBe(-EINVAL);
    expect(unmap(handle)).toBe(0);
    for (const [i, w] of [0, mfn(0x70)].entries()) c.guest.setU64(DATA + 8 * i, w);
    expect(c.call(26, DATA, 1, 0, SELF)).toBe(0);
  });

  it('can be copied from and to', () => {
    grant(9, 0x70);
    c.guest.setU64(0x70 * 4096 + 16, 0x1122);
    const copy = (...w: number[]): number => {
      expect(op(5, ...w)).toBe(0);
      return s16(DATA + 36);
    };
    expect(copy(9, 0, OWN | (16 << 16), 0, mfn(0x71), 0, SELF | (32 << 16), 0, 8 | (1 << 16), 0)).toBe(0);
    expect(c.guest.s64(0x71 * 4096 + 32)).toBe(0x1122);
    expect(entry(9) & 0xffff).toBe(FLAGS_OF.permit);
    expect(copy(9, 0, OWN | (4090 << 16), 0, mfn(0x71), 0, SELF, 0, 8 | (1 << 16), 0)).toBe(-10);
    expect(copy(9, 0, OWN, 0, mfn(L1), 0, SELF, 0, 8 | (1 << 16), 0)).toBe(-1);
    expect(copy(9, 0, OWN, 0, 5, 0, SELF, 0, 8 | (1 << 16), 0)).toBe(-9);
  });
});

describe('a back end', () => {
  it('maps what is granted to domain 0, and nothing else', () => {
    const { backend, state } = c.guest.domain;
    grant(20, 0x70, 0);
    expect(backend.grantMap(20, true)).toBe(state.ram.linearOf(0x70));
    expect(entry(20) & 0xffff).toBe(FLAGS_OF.permit | FLAGS_OF.reading | FLAGS_OF.writing);
    expect(backend.grantMap(20, false)).toBe(state.ram.linearOf(0x70));
    backend.grantUnmap(20, true);
    expect(entry(20) & 0xffff).toBe(FLAGS_OF.permit | FLAGS_OF.reading);
    backend.grantUnmap(20, false);
    expect(entry(20) & 0xffff).toBe(FLAGS_OF.permit);
    grant(21, 0x70, OWN);
    expect(backend.grantMap(21, false)).toBeLessThan(0);
    grant(22, 0x70, 0, FLAGS_OF.permit | FLAGS_OF.readonly);
    expect(backend.grantMap(22, true)).toBeLessThan(0);
    expect(backend.grantMap(1_000_000, true)).toBeLessThan(0);
    grant(23, 0x12345, 0);
    expect(backend.grantMap(23, false)).toBeLessThan(0);
  });
});
