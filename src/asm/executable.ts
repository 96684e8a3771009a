/**
 * Makes a static ELF executable for Linux from assembly. It has one segment that is readable, writable and
 * executable.
 */
import { assemble } from './assembler.js';

const BASE = 0x400000;
const HEADER = 0x78; // ELF header and one program header
/** An address for the first pass, which only measures the length. */
const FAR = 0x500000;

/**
 * Returns the file. Execution begins at the first instruction of the source. The label `bss` is followed by
 * `bssBytes` zero bytes.
 */
export function executable(source: string, bssBytes: number): Uint8Array {
  const length = assemble(source, BigInt(BASE + HEADER), { bss: FAR }).bytes.length;
  const bss = (BASE + HEADER + length + 0xfff) & ~0xfff;
  const { bytes } = assemble(source, BigInt(BASE + HEADER), { bss });
  const file = new Uint8Array(HEADER + bytes.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(BASE + HEADER), true); // e_entry
  view.setBigUint64(32, 64n, true); // e_phoff
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setUint32(68, 7, true); // read, write, execute
  view.setBigUint64(80, BigInt(BASE), true);
  view.setBigUint64(88, BigInt(BASE), true);
  view.setBigUint64(96, BigInt(file.length), true);
  view.setBigUint64(104, BigInt(bss - BASE + bssBytes), true);
  view.setBigUint64(112, 0x1000n, true);
  file.set(bytes, HEADER);
  return file;
}
