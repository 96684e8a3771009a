export { fetchDebian, NoPackages } from './lib/debian.mjs';
export interface Guests {
  dir: string;
  vmlinuz: string;
  vmlinux: string;
  initramfs: string;
  grub: string;
  grub32: string | undefined;
}
export function ensureGuests(): Promise<Guests>;
