/**
 * Booting from the guest's own disk. The guest begins with a GRUB of ours (scripts/lib/grub.ts), which reads its disk
 * and shows its menu from inside, puts the kernel and the initial RAM disk that were chosen into the guest's memory,
 * and starts a program of a few instructions. That one ends the power cycle with SHUTDOWN_HAND_OVER, and the guest
 * is switched on once more, with these files: as with pygrub, the kernel finds what a domain builder makes.
 *
 * Invariant: nothing here reads a file system; what comes out of the guest's memory is checked before it is used.
 */
import type * as v from 'valibot';
import { fields, is, text, whole, yes } from '../protocol/shapes.js';
import { KernelError } from './kernel-error.js';

/** Stands in a guest's configuration for the image of GRUB, which each host has at a place of its own. */
export const BOOT_LOADER = '/stillpoint/boot-loader';

/** Why the guest stops when GRUB has loaded its kernel. Xen has reasons up to 5, and the argument is a byte. */
export const SHUTDOWN_HAND_OVER = 0x42;

/** By this name the kernel lies in the archive that GRUB makes. */
export const HANDED_KERNEL = 'kernel';

const MAX_TEXT = 1024;

/** What GRUB is told: what pygrub is by its arguments. Text is "" if nothing was given. */
export const bootLoaderSettings = fields({
  args: is(text(MAX_TEXT), 'what is added to the command line of the kernel'),
  kernel: is(text(MAX_TEXT), "a kernel in the guest's file system, which is started without a menu"),
  ramdisk: is(text(MAX_TEXT), 'the initial RAM disk that belongs to it'),
  entry: is(text(MAX_TEXT), 'the entry of the menu: its number or its title'),
  config: is(text(MAX_TEXT), "the menu's file, if it is not one of the usual ones"),
  quiet: is(yes, 'the menu is not waited for'),
  offset: is(whole(0, Number.MAX_SAFE_INTEGER), 'where the file system begins on the first disk', 'bytes'),
});
export type BootLoaderSettings = Readonly<v.InferOutput<typeof bootLoaderSettings>>;

export const NO_SETTINGS: BootLoaderSettings = {
  args: '',
  kernel: '',
  ramdisk: '',
  entry: '',
  config: '',
  quiet: false,
  offset: 0,
};

/** The first line of the part of the image that is written over with the settings, and the size of that part. */
export const SETTINGS_MARK = '# Stillpoint writes the settings of this guest over this part of the image.\n';
export const SETTINGS_BYTES = 8192;

const SECTOR = 512;
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** The settings as commands of GRUB; what is added to the command line is added by the host. Throws KernelError. */
function settingsText(settings: BootLoaderSettings): string {
  const { kernel, ramdisk, entry, config, quiet, offset } = settings;
  if (offset % SECTOR !== 0)
    throw new KernelError(`the offset ${offset} of the file system is no multiple of ${SECTOR}`);
  const values = {
    kernel,
    ramdisk,
    entry,
    config,
    quiet: quiet ? '1' : '',
    offset: offset === 0 ? '' : String(offset / SECTOR),
  };
  for (const [name, value] of Object.entries(values))
    if (/[\x00-\x1f\x7f]/.test(value))
      throw new KernelError(`the boot loader's ${name} has a control character in it`);
  return Object.entries(values)
    .map(([name, value]) => `set sp_${name}=${quote(value)}\n`)
    .join('');
}

function indexOf(bytes: Uint8Array, text: string): number {
  const wanted = new TextEncoder().encode(text);
  for (let at = bytes.indexOf(wanted[0]); at >= 0; at = bytes.indexOf(wanted[0], at + 1))
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return at;
  return -1;
}

/**
 * The image with these settings in it. An image that has no place for them is another build of GRUB: it is returned as it
 * is, with what it does not do. Throws KernelError if the settings cannot be written.
 */
export function withSettings(
  image: Uint8Array,
  settings: BootLoaderSettings,
): { readonly image: Uint8Array; readonly missing?: string } {
  const written = new TextEncoder().encode(settingsText(settings));
  const at = indexOf(image, SETTINGS_MARK);
  if (at < 0 || at + SETTINGS_BYTES > image.length) {
    const asked = Object.entries(NO_SETTINGS).some(
      ([name, none]) => settings[name as keyof BootLoaderSettings] !== none,
    );
    return {
      image,
      missing:
        "this image of GRUB is not Stillpoint's own (npm run grub makes that): it loads kernels slowly" +
        (asked ? ", and extra, root and bootloader_args do not reach the kernel's command line" : ''),
    };
  }
  if (written.length > SETTINGS_BYTES)
    throw new KernelError(`the boot loader's settings are more than ${SETTINGS_BYTES} bytes`);
  const changed = image.slice();
  changed.fill(0x0a, at, at + SETTINGS_BYTES).set(written, at);
  return { image: changed };
}

/** What GRUB has loaded, out of the guest's memory. */
export interface HandedOver {
  readonly kernel: Uint8Array;
  readonly ramdisk: Uint8Array | undefined;
}

const MAGIC = '070701';
const HEADER = 110;
const FILE_SIZE = 54;
const NAME_SIZE = 94;
const aligned = (n: number): number => (n + 3) & ~3;

/**
 * Takes the module apart that GRUB has made: a cpio archive ("newc") of the kernel alone, and after its trailer the initial
 * RAM disk as it is. Throws KernelError, with the byte.
 */
export function takeApart(module: Uint8Array): HandedOver {
  let at = 0;
  const fail = (what: string): never => {
    throw new KernelError(`what the boot loader has loaded cannot be used: ${what} at byte ${at}`);
  };
  const characters = (from: number, length: number): string =>
    String.fromCharCode(...module.subarray(from, from + length));
  const entry = (): { name: string; data: Uint8Array } => {
    if (at + HEADER > module.length || characters(at, MAGIC.length) !== MAGIC)
      fail('an archive header is missing');
    const number = (offset: number): number => {
      const digits = characters(at + offset, 8);
      return /^[0-9a-f]{8}$/i.test(digits) ? Number.parseInt(digits, 16) : fail('a number is damaged');
    };
    const [size, nameSize] = [number(FILE_SIZE), number(NAME_SIZE)];
    const dataAt = aligned(at + HEADER + nameSize);
    if (nameSize < 1 || nameSize > 256 || dataAt + size > module.length) fail('an entry is too long');
    const name = characters(at + HEADER, nameSize).replace(/\0.*$/s, '');
    const data = module.subarray(dataAt, dataAt + size);
    at = aligned(dataAt + size);
    return { name, data };
  };
  const kernel = entry();
  if (kernel.name !== HANDED_KERNEL) fail(`${HANDED_KERNEL} is missing`);
  if (entry().name !== 'TRAILER!!!') fail('the end of the archive is missing');
  const rest = module.subarray(Math.min(at, module.length));
  return { kernel: kernel.data, ramdisk: rest.length === 0 ? undefined : rest };
}
