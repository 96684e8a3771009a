/**
 * Octet strings: JS strings whose characters are bytes (0 to 255). Values and payloads are kept so, because
 * V8 stores them at one byte a character, shares them without copying and compares them fast.
 */

/** `length` bytes from `at` on as an octet string. */
export function octetsFromBytes(bytes: Uint8Array, at: number, length: number): string {
  const end = at + length;
  if (length <= 512) return String.fromCharCode.apply(null, bytes.subarray(at, end) as never);
  let text = '';
  for (let from = at; from < end; from += 512)
    text += String.fromCharCode.apply(null, bytes.subarray(from, Math.min(end, from + 512)) as never);
  return text;
}

/** Writes the octets of `text` from character `from` on into `bytes` at `at`: at most `limit` of them. */
export function writeOctets(
  text: string,
  from: number,
  bytes: Uint8Array,
  at: number,
  limit: number,
): number {
  const count = Math.min(limit, text.length - from);
  for (let i = 0; i < count; i++) bytes[at + i] = text.charCodeAt(from + i);
  return count;
}

export function bytesFromOctets(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  writeOctets(text, 0, bytes, 0, text.length);
  return bytes;
}

/** The same octets as a string of its own: V8 keeps a part of a string as a reference to the whole. */
export const ownOctets = (text: string): string => octetsFromBytes(bytesFromOctets(text), 0, text.length);

const ASCII = /^[\0-\x7f]*$/;
/** Up to this length a loop is faster than a regular expression. */
const SHORT = 64;

function isAscii(text: string): boolean {
  if (text.length > SHORT) return ASCII.test(text);
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** The UTF-8 bytes of a text as an octet string. Plain ASCII, the usual case, is its own octet string. */
export function octetsFromText(text: string): string {
  if (isAscii(text)) return text;
  const bytes = new TextEncoder().encode(text);
  return octetsFromBytes(bytes, 0, bytes.length);
}

/** The text that an octet string holds as UTF-8; bytes that are not UTF-8 become U+FFFD. */
export function textFromOctets(octets: string): string {
  return isAscii(octets) ? octets : new TextDecoder().decode(bytesFromOctets(octets));
}
