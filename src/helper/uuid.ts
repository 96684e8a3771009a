/** A uuid as bytes and in its usual form. */

export const uuidText = (uuid: Uint8Array): string =>
  Array.from(uuid, (b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

/** The 16 bytes of a uuid in its usual form. */
export const uuidBytes = (text: string): Uint8Array =>
  Uint8Array.from(text.replaceAll('-', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
