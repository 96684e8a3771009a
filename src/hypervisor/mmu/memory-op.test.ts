import { beforeEach, describe, expect, it } from 'vitest';
import { CallingGuest, DATA, FRAMES, HOLE, L1, mfn } from '../../../test/support/tiny-guest.js';
import { EACCES, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../../xen/errno.js';

const SELF = 0x7ff0;
const LIST = DATA + 0x400;
let c: CallingGuest;
beforeEach(async () => {
  c = await CallingGuest.boot();
});
const memoryOp = (op: number, arg: number | bigint = DATA): number => c.call(12, op, arg);
const reservation = (op: number, frames: number[], order = 0, domid = SELF): number => {
  c.guest.setU64(DATA, LIST);
  c.guest.setU64(DATA + 8, frames.length);
  c.guest.setU32(DATA + 16, order);
  c.guest.setU32(DATA + 20, 0);
  c.guest.setU64(DATA + 24, domid);
  for (const [i, frame] of frames.entries()) c.guest.setU64(LIST + 8 * i, frame);
  return memoryOp(op);
};
const stat = (op: number, domid = SELF): number => {
  c.guest.setU32(DATA, domid);
  return memoryOp(op);
};

describe('the reservation', () => {
  it('is what the guest was given, plus at most 1 MiB', () => {
    expect(stat(3)).toBe(FRAMES);
    expect(stat(4)).toBe(FRAMES + 256);
    expect(stat(3, 0)).toBe(-EPERM);
    expect(stat(3, 5)).toBe(-ESRCH);
    c.guest.domain.state.mem.setU64(c.guest.domain.state.sharedInfo + 3088, 0x800);
    expect(stat(14)).toBe(0x7ff);
  });

  it('shrinks and grows again, with zeroed frames and their entries in the M2P', () => {
    c.guest.setU64(0x70 * 4096, 99);
    expect(reservation(1, [mfn(0x70), mfn(0x71)])).toBe(2);
    expect(stat(3)).toBe(FRAMES - 2);
    expect(c.guest.domain.state.m2p.get(0x70)).toBe(2 ** 64);
    expect(c.call(14, 0x60_0000, mfn(0x70) * 4096 + 7, 0)).toBe(-16);
    expect(reservation(6, [0x70, 0x70])).toBe(2);
    expect([c.guest.s64(LIST), c.guest.s64(LIST + 8)]).toEqual([mfn(0x70), mfn(0x71)]);
    expect([c.guest.s64(0x70 * 4096), c.guest.domain.state.m2p.get(0x71)]).toEqual([0, 0x70]);
    expect(stat(3)).toBe(FRAMES);
  });

  it('does not grow beyond its limit, nor shrink by frames that it does not have', () => {
    expect(
      reservation(
        6,
        Array.from({ length: 100 }, (_, i) => 4000 + i),
      ),
    ).toBe(100);
    expect(
      reservation(
        6,
        Array.from({ length: 100 }, (_, i) => 5000 + i),
      ),
    ).toBe(100);
    expect(
      reservation(
        6,
        Array.from({ length: 100 }, (_, i) => 6000 + i),
      ),
    ).toBe(56);
    expect(reservation(1, [mfn(0x70), 5, mfn(0x71)])).toBe(1);
    expect(reservation(1, [mfn(0x72)], 0, 0)).toBe(0);
    expect(memoryOp(1, HOLE)).toBe(0);
  });

  it('cannot be exchanged: there is no spare memory', () => {
    const words = [LIST, 1, 0, SELF, LIST + 64, 1, 0, SELF, 0];
    for (const [i, word] of words.entries()) c.guest.setU64(DATA + 8 * i, word);
    c.guest.setU64(LIST, 5);
    expect(memoryOp(11)).toBe(-EINVAL);
    c.guest.setU64(LIST, mfn(0x100));
    expect(memoryOp(11)).toBe(-ENOMEM);
    c.guest.setU64(DATA + 16, 12);
    expect(memoryOp(11)).toBe(-EPERM);
    c.guest.setU64(DATA + 16, 1);
    expect(memoryOp(11)).toBe(-EINVAL);
  });
});

describe('maps', () => {
  it('of memory are those that the toolstack set', () => {
    c.guest.setU32(DATA, 8);
    c.guest.setU64(DATA + 8, LIST);
    expect(memoryOp(9)).toBe(0);
    expect(c.guest.u32(DATA)).toBe(1);
    expect([c.guest.s64(LIST), c.guest.s64(LIST + 8), c.guest.u32(LIST + 16)]).toEqual([0, FRAMES * 4096, 1]);
  });

  it("of the machine are Xen's constants", () => {
    expect(memoryOp(12)).toBe(0);
    expect(c.guest.words(DATA, 3)).toEqual([0xffff_8000_0000_0000n, 0xffff_8040_0000_0000n, 0x7_ffff_ffffn]);
    c.guest.setU32(DATA, 100);
    c.guest.setU64(DATA + 8, LIST);
    expect(memoryOp(5)).toBe(0);
    expect(c.guest.u32(DATA + 16)).toBe(5);
    expect(c.guest.s64(LIST + 32)).toBe(mfn(c.guest.domain.layout.m2p));
  });
});

describe('what an unprivileged PV guest may not do', () => {
  it('returns the errors that Xen returns', () => {
    c.guest.setU64(DATA, SELF);
    expect(memoryOp(7)).toBe(-EACCES);
    expect(memoryOp(15)).toBe(-EACCES);
    expect(memoryOp(26)).toBe(-EOPNOTSUPP);
    expect(memoryOp(28)).toBe(-ESRCH);
    expect(memoryOp(10)).toBe(-EPERM);
    expect(memoryOp(25)).toBe(-EOPNOTSUPP);
    expect(memoryOp(16)).toBe(-EINVAL);
    expect(memoryOp(62)).toBe(-ENOSYS);
    expect(memoryOp(9, HOLE)).toBe(-EFAULT);
    expect(memoryOp(3 + 64)).toBe(-EINVAL);
    expect(c.guest.domain.state.frames.type[L1]).toBe(1);
  });
});
