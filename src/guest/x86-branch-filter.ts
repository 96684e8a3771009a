/**
 * Undoes the x86 branch filter of xz (filter 0x04), which is used for Linux kernels. Before compression the filter
 * replaces the relative targets of CALL and JMP with absolute ones, because equal targets compress better.
 *
 * The four bytes after an E8 or E9 are taken as a target if the most significant one is 00 or FF. A mask of three
 * bits records which of the last bytes looked like opcodes too, because an opcode inside a target makes the target
 * doubtful.
 * Source: the .xz file format, section 5.3.2; the public domain description of "BCJ x86" in the LZMA SDK.
 */

/** Indexed by the mask: whether the bytes after an opcode may be a target, and which of them is the doubtful one. */
const MAY_BE_TARGET = [true, true, true, false, true, false, false, false];
const DOUBTFUL_BYTE = [0, 1, 2, 2, 3, 3, 3, 3];

const isSignExtension = (byte: number): boolean => byte === 0x00 || byte === 0xff;

/** Converts in place. `bytes` is the whole decompressed block, because positions count from its start. */
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
