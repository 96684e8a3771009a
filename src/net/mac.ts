/** Ethernet addresses as 48-bit numbers, which a double holds exactly. */

export const BROADCAST = 0xffff_ffff_ffff;

export const readMac = (b: Uint8Array, at: number): number =>
  (b[at] * 256 + b[at + 1]) * 0x1_0000_0000 +
  (((b[at + 2] << 24) | (b[at + 3] << 16) | (b[at + 4] << 8) | b[at + 5]) >>> 0);

export function writeMac(b: Uint8Array, at: number, mac: number): void {
  for (let i = 5; i >= 0; i--) {
    b[at + i] = mac % 256;
    mac = Math.floor(mac / 256);
  }
}

/** True for group addresses, including broadcast. */
export const isGroup = (b: Uint8Array, at: number): boolean => (b[at] & 1) !== 0;

/** Converts "00:16:3e:01:02:03" to a number. */
export const parseMac = (text: string): number => Number.parseInt(text.replaceAll(':', ''), 16);

export const formatMac = (mac: number): string =>
  mac
    .toString(16)
    .padStart(12, '0')
    .replace(/(..)(?=.)/g, '$1:');
