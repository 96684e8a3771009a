import { expect, test } from 'vitest';
import { writeCpio } from '../../src/appliance/cpio.js';
import {
  NO_SETTINGS,
  SETTINGS_BYTES,
  SETTINGS_MARK,
  takeApart,
  withSettings,
} from '../../src/guest/boot-loader.js';
import { KernelError } from '../../src/guest/kernel-error.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const IMAGE = bytes(`before${SETTINGS_MARK}${'\n'.repeat(SETTINGS_BYTES - SETTINGS_MARK.length)}after`);

test('the settings take the place that the image has for them, as commands of GRUB, and nothing else changes', () => {
  const settings = { ...NO_SETTINGS, entry: "Debian's; reboot", quiet: true, offset: 1024, args: 'x' };
  const { image, missing } = withSettings(IMAGE, settings);
  expect(missing).toBeUndefined();
  expect(image).toHaveLength(IMAGE.length);
  const text = new TextDecoder().decode(image);
  expect(text).toMatch(/^beforeset sp_kernel=''\n/);
  expect(text).toContain(`set sp_entry='Debian'\\''s; reboot'\n`);
  expect(text).toContain("set sp_quiet='1'\nset sp_offset='2'\n\n");
  expect(text.slice(6 + SETTINGS_BYTES)).toBe('after');
});

test('another build of GRUB stays as it is, and what it does not do is said', () => {
  const other = bytes('GRUB');
  const say = (settings = NO_SETTINGS) => withSettings(other, settings);
  expect(say().image).toBe(other);
  expect(say().missing).toMatch(/loads kernels slowly$/);
  expect(say({ ...NO_SETTINGS, args: 'ro' }).missing).toMatch(/do not reach the kernel's command line$/);
});

test('settings that GRUB could take for commands, and too many of them, are refused', () => {
  for (const settings of [{ entry: 'a\nb' }, { kernel: '/k\0' }, { offset: 100 }])
    expect(() => withSettings(IMAGE, { ...NO_SETTINGS, ...settings })).toThrow(KernelError);
  const long = "'".repeat(1024);
  const all = { kernel: long, ramdisk: long, entry: long, config: long };
  expect(() => withSettings(IMAGE, { ...NO_SETTINGS, ...all })).toThrow(/more than 8192 bytes/);
});

/** As GRUB makes it: an archive of one file, without the padding at its end, and the RAM disk. */
function module(name: string, kernel: string, ramdisk: string): Uint8Array {
  const whole = Buffer.from(writeCpio([{ path: name, data: kernel }]));
  const end = whole.indexOf('TRAILER!!!') + 'TRAILER!!!'.length;
  return Buffer.concat([whole.subarray(0, (end + 4) & ~3), bytes(ramdisk)]);
}

test('what GRUB has loaded is taken apart into the kernel and the RAM disk, whose bytes are as they were', () => {
  const { kernel, ramdisk } = takeApart(module('kernel', 'KERNEL', '070701 is in it'));
  expect(Buffer.from(kernel).toString()).toBe('KERNEL');
  expect(Buffer.from(ramdisk as Uint8Array).toString()).toBe('070701 is in it');
  expect(takeApart(module('kernel', 'KERNEL', '')).ramdisk).toBeUndefined();
});

test('whatever lies in the memory of a guest, the answer is a part of it or an error with the byte', () => {
  const good = module('kernel', 'KERNEL', 'rest');
  for (let at = 0; at < good.length - 4; at++) {
    const changed = good.slice();
    changed[at] = 0xff;
    for (const one of [changed, good.subarray(0, at)])
      try {
        const { kernel, ramdisk } = takeApart(one);
        expect(kernel.length + (ramdisk?.length ?? 0)).toBeLessThan(one.length);
      } catch (error) {
        expect(error).toBeInstanceOf(KernelError);
        expect((error as Error).message).toMatch(/at byte \d+$/);
      }
  }
  expect(() => takeApart(module('other', 'KERNEL', ''))).toThrow(/kernel is missing at byte \d+$/);
});
