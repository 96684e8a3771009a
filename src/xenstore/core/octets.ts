/**
 * Octet strings: JavaScript strings whose characters are bytes (0 to 255). Values and payloads are kept in this form,
 * because V8 stores them with one byte per character, shares them without copying and compares them fast.
 */

/** Converts `length` bytes, starting at `at`, to an octet string. */
export function octetsFromBytes(bytes: Uint8Array, at: number, length: number): string {
  const end = at + length;
  if (length <= 512) return String.fromCharCode.apply(null, bytes.subarray(at, end) as never);
  let text = '';
  for (let from = at; from < end; from += 512)
    text += String.fromCharCode.apply(null, bytes.subarray(from, Math.min(end, from + 512)) as never);
  return text;
}

/**
 * Writes octets of `text`, starting with character `from`, into `bytes` at `at`. At most `limit` octets are written.
 */
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

/** Copies an octet string, because V8 keeps a part of a string as a reference to the whole string. */
export const ownOctets = (text: string): string => octetsFromBytes(bytesFromOctets(text), 0, text.length);

const ASCII = /^[\0-\x7f]*$/;
/** Up to this length, in characters, a loop is faster than a regular expression. */
const SHORT = 64;

function isAscii(text: string): boolean {
  if (text.length > SHORT) return ASCII.test(text);
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** The UTF-8 bytes of a text as an octet string. Plain ASCII, the usual case, is returned as it is. */
export function octetsFromText(text: string): string {
  if (isAscii(text)) return text;
  const bytes = new TextEncoder().encode(text);
  return octetsFromBytes(bytes, 0, bytes.length);
}

/** Decodes an octet string as UTF-8. Bytes that are not UTF-8 become U+FFFD. */
export function textFromOctets(octets: string): string {
  return isAscii(octets) ? octets : new TextDecoder().decode(bytesFromOctets(octets));
}
