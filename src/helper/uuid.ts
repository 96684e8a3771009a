/** Formats a uuid of 16 bytes in its usual form. */

export const uuidText = (uuid: Uint8Array): string =>
  Array.from(uuid, (b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

/** Parses a uuid in its usual form into its 16 bytes. */
export const uuidBytes = (text: string): Uint8Array =>
  Uint8Array.from(text.replaceAll('-', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
