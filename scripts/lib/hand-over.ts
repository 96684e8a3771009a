/**
 * The program that GRUB starts when it has loaded a guest's kernel (src/guest/boot-loader.ts), as an ELF file that Xen's
 * loaders take: it ends the power cycle with SHUTDOWN_HAND_OVER, and leaves the address of start_info in r15. A guest that
 * was moved in between goes on behind the call, and makes it again.
 */
import { assemble } from '../../src/asm/assembler.js';
import { SHUTDOWN_HAND_OVER } from '../../src/guest/boot-loader.js';

const BASE = 0x10_0000;
const PAGE = 4096;
const SOURCE = `
  mov r15, rsi
again:
  mov edi, 2
  lea rsi, [reason]
  mov eax, 29
  syscall
  jmp again
reason: dq ${SHUTDOWN_HAND_OVER}
`;

/** Notes of the owner Xen: entry, virtual base, the version of the interface, how it is to be loaded. */
const NOTES: readonly (readonly [type: number, value: number | string])[] = [
  [1, BASE],
  [3, 0],
  [5, 'xen-3.0'],
  [8, 'generic'],
];

function notes(): Buffer {
  const parts = NOTES.map(([type, value]) => {
    const data = Buffer.alloc(8);
    if (typeof value === 'number') data.writeBigUInt64LE(BigInt(value));
    else data.write(value, 'latin1');
    const head = Buffer.alloc(16);
    head.writeUInt32LE(4, 0);
    head.writeUInt32LE(data.length, 4);
    head.writeUInt32LE(type, 8);
    head.write('Xen\0', 12, 'latin1');
    return Buffer.concat([head, data]);
  });
  return Buffer.concat(parts);
}

export function handOverKernel(): Buffer {
  const code = assemble(SOURCE, BigInt(BASE)).bytes;
  const note = notes();
  const file = Buffer.alloc(PAGE + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(2, 16); // ET_EXEC
  file.writeUInt16LE(62, 18); // EM_X86_64
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(BASE), 24); // e_entry
  file.writeBigUInt64LE(64n, 32); // e_phoff
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const segment = (at: number, type: number, offset: number, address: number, length: number): void => {
    file.writeUInt32LE(type, at);
    file.writeUInt32LE(7, at + 4);
    for (const [i, value] of [offset, address, address, length, length, 8].entries())
      file.writeBigUInt64LE(BigInt(value), at + 8 + 8 * i);
  };
  segment(64, 1, PAGE, BASE, code.length);
  segment(120, 4, 256, 0, note.length);
  file.set(note, 256);
  file.set(code, PAGE);
  return file;
}
