/**
 * Undoes the x86 branch filter of xz (filter 0x04), which Linux kernels are packed with: before packing, the
 * relative targets of CALL and JMP were replaced by absolute ones, as equal targets pack better.
 *
 * The four bytes after an E8 or E9 are a target if the topmost is 00 or FF; the filter remembers in a mask of
 * three bits which of the last bytes looked like opcodes too, since opcodes inside a target make it doubtful.
 * Source: the .xz file format, section 5.3.2; the public domain description of "BCJ x86" in the LZMA SDK.
 */

/** By mask: whether bytes after an opcode may be a target, and which of its bytes is the doubtful one. */
const MAY_BE_TARGET = [true, true, true, false, true, false, false, false];
const DOUBTFUL_BYTE = [0, 1, 2, 2, 3, 3, 3, 3];

const isSignExtension = (byte: number): boolean => byte === 0x00 || byte === 0xff;

/** Converts in place. `bytes` is the whole unpacked block: positions count from its start. */
export function undoX86BranchFilter(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const last = bytes.length - 4;
  let mask = 0;
  let previous = -1; // position of the last opcode seen
  for (let at = 0; at < last; at++) {
    if ((bytes[at] & 0xfe) !== 0xe8) continue;
    const distance = at - previous;
    previous = at;
    mask = distance > 3 ? 0 : (mask << (distance - 1)) & 7;
    if (mask !== 0 && (!MAY_BE_TARGET[mask] || isSignExtension(bytes[at + 4 - DOUBTFUL_BYTE[mask]]))) {
      mask = ((mask << 1) | 1) & 7;
      continue;
    }
    if (!isSignExtension(bytes[at + 4])) {
      mask = ((mask << 1) | 1) & 7;
      continue;
    }
    let absolute = view.getUint32(at + 1, true);
    let relative: number;
    for (;;) {
      relative = (absolute - (at + 5)) >>> 0;
      if (mask === 0) break;
      const shift = DOUBTFUL_BYTE[mask] * 8;
      if (!isSignExtension((relative >>> (24 - shift)) & 0xff)) break;
      absolute = (relative ^ (2 ** (32 - shift) - 1)) >>> 0;
    }
    // 25 bits, sign-extended
    view.setInt32(at + 1, (relative << 7) >> 7, true);
    at += 4;
    mask = 0;
    previous = at;
  }
}
