import { beforeAll, describe, expect, it } from 'vitest';
import { CallingGuest, DATA, HOLE } from '../../../test/support/tiny-guest.js';
import { EACCES, EFAULT, EINVAL, ENOSYS, EPERM } from '../../xen/errno.js';

let guest: CallingGuest;
beforeAll(async () => {
  guest = await CallingGuest.boot();
});
const version = (command: number, arg: number | bigint = DATA): number => guest.call(17, command, arg);

describe('a guest that asks for the version', () => {
  it('gets the constant profile, in the form in which Xen 4.17 reports it', () => {
    expect(version(0)).toBe(0x40011);
    expect(version(1)).toBe(0);
    expect(guest.guest.text(DATA)).toBe('.7');
    expect(version(3)).toBe(0);
    expect(guest.guest.text(DATA)).toBe('xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ');
    expect(version(5)).toBe(0);
    expect(guest.guest.big(DATA)).toBe(0xffff_8000_0000_0000n);
    expect(version(8)).toBe(0);
    expect(guest.guest.u8(DATA + 15)).toBe(16);
  });

  it('gets the feature word 0x220f0, and no second feature map', () => {
    guest.guest.setU32(DATA, 0);
    expect(version(6)).toBe(0);
    expect(guest.guest.u32(DATA + 4)).toBe(0x220f0);
    guest.guest.setU32(DATA, 1);
    expect(version(6)).toBe(-EINVAL);
  });

  it('is refused what only a privileged domain may know', () => {
    expect(version(10)).toBe(-EPERM);
    expect(version(9)).toBe(0);
    expect(guest.guest.text(DATA)).toBe('<denied>');
    expect(version(7, 0)).toBe(4096);
    expect(version(7)).toBe(-EINVAL);
    expect(version(99)).toBe(-ENOSYS);
  });

  it("gets -EFAULT for memory that is missing, not canonical or in Xen's range", () => {
    for (const arg of [HOLE, 0x8000_0000_0000n, 0xffff_8000_0000_0000n, 0xffff_87ff_ffff_fff8n, -8]) {
      expect(version(5, arg), String(arg)).toBe(-EFAULT);
    }
  });
});

describe('a guest that makes hypercalls that are not for guests', () => {
  it('gets the errors that Xen gives an unprivileged domain', () => {
    const result = (nr: number): number => guest.call(nr, DATA, DATA, 0);
    for (const nr of [37, 42, 48]) expect(result(nr), `number ${nr}`).toBe(-EPERM);
    for (const nr of [11, 16, 19, 27, 38, 39, 43, 63, 64, 1000]) {
      guest.guest.setU64(DATA, 99);
      expect(result(nr), `number ${nr}`).toBe(-ENOSYS);
    }
    // Of the toolstack's hypercalls Xen checks first the version of the interface, then the permission.
    for (const [nr, version] of [
      [7, 0x0300_0001],
      [35, 0x15],
      [36, 0x15],
    ]) {
      guest.guest.setU32(DATA + 4, version);
      expect(result(nr), `number ${nr}`).toBe(-EPERM);
      guest.guest.setU32(DATA + 4, version + 1);
      expect(result(nr), `number ${nr}`).toBe(-EACCES);
      expect(guest.call(nr, HOLE), `number ${nr}`).toBe(-EFAULT);
    }
    expect(guest.call(0x1_0000_0011n, 0)).toBe(-ENOSYS);
  });
});

describe('a multicall', () => {
  it('returns a result for each call, and may not contain another multicall', () => {
    const { guest: g } = guest;
    const entry = (i: number, ...words: number[]): void => {
      for (const [j, w] of words.entries()) g.setU64(DATA + 64 * i + (j === 0 ? 0 : 8 + 8 * j), w);
    };
    entry(0, 17, 0, 0);
    entry(1, 13, DATA, 1);
    entry(2, 63, 0, 0);
    entry(3, 17, 7, 0);
    expect(guest.call(13, DATA, 4)).toBe(0);
    expect([0, 1, 2, 3].map((i) => g.s64(DATA + 64 * i + 8))).toEqual([0x40011, -EINVAL, -ENOSYS, 4096]);
    expect(guest.call(13, HOLE, 1)).toBe(-EFAULT);
  });
});
