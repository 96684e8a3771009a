/** The kernel of a guest of no meaning (rehearsal.ts): computes, calls, copies and yields, for ever. */
import {
  XEN_ELFNOTE_ENTRY,
  XEN_ELFNOTE_LOADER,
  XEN_ELFNOTE_VIRT_BASE,
  XEN_ELFNOTE_XEN_VERSION,
} from '../xen/elfnote.js';

export const PRACTICE_BASE = 0x10_0000;
const PROGRAM_HEADERS = 64;
const NOTES = PROGRAM_HEADERS + 2 * 56;
/** The code's page, and one for its data. */
const MEMORY_BYTES = 0x2000;

export const PRACTICE_SOURCE = `
  start:
    lea rdi, [start+4096]
    mov ecx, 2000
  inner:
    mov eax, [rdi]
    add eax, ecx
    mov [rdi], eax
    imul eax, eax, 7
    xor rdx, rax
    shr rdx, 3
    call leaf
    dec ecx
    jnz inner
    mov rsi, rdi
    add rdi, 256
    mov ecx, 64
    rep movsb
    mov eax, 29
    xor edi, edi
    xor esi, esi
    syscall
    jmp start
  leaf:
    push rbx
    movzx ebx, byte [rdi+1]
    cmp ebx, 100
    ja done
    inc rdx
  done:
    pop rbx
    ret
`;

/** PRACTICE_SOURCE assembled (practice-kernel.test.ts): the assembler would take longer than all the rest. */
// biome-ignore format: bytes
export const PRACTICE_CODE = Uint8Array.of(
  0x48, 0x8d, 0x3d, 0xf9, 0x0f, 0x00, 0x00, 0xb9, 0xd0, 0x07, 0x00, 0x00, 0x8b, 0x07, 0x01, 0xc8,
  0x89, 0x07, 0x6b, 0xc0, 0x07, 0x48, 0x31, 0xc2, 0x48, 0xc1, 0xea, 0x03, 0xe8, 0x29, 0x00, 0x00,
  0x00, 0xff, 0xc9, 0x0f, 0x85, 0xe3, 0xff, 0xff, 0xff, 0x48, 0x89, 0xfe, 0x48, 0x81, 0xc7, 0x00,
  0x01, 0x00, 0x00, 0xb9, 0x40, 0x00, 0x00, 0x00, 0xf3, 0xa4, 0xb8, 0x1d, 0x00, 0x00, 0x00, 0x31,
  0xff, 0x31, 0xf6, 0x0f, 0x05, 0xe9, 0xb6, 0xff, 0xff, 0xff, 0x53, 0x0f, 0xb6, 0x5f, 0x01, 0x83,
  0xfb, 0x64, 0x0f, 0x87, 0x03, 0x00, 0x00, 0x00, 0x48, 0xff, 0xc2, 0x5b, 0xc3,
);

function note(type: number, value: Uint8Array): number[] {
  const word = (n: number): number[] => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24];
  const padding = new Array<number>(-value.length & 3).fill(0);
  return [...word(4), ...word(value.length), ...word(type), 0x58, 0x65, 0x6e, 0, ...value, ...padding];
}

const text = (s: string): Uint8Array => Uint8Array.from(`${s}\0`, (c) => c.charCodeAt(0));
const number = (n: number): Uint8Array => new Uint8Array(new BigUint64Array([BigInt(n)]).buffer);

/** An ELF file with Xen's notes. */
export function practiceKernel(): Uint8Array {
  const bytes = PRACTICE_CODE;
  const notes = [
    ...note(XEN_ELFNOTE_XEN_VERSION, text('xen-3.0')),
    ...note(XEN_ELFNOTE_LOADER, text('generic')),
    ...note(XEN_ELFNOTE_VIRT_BASE, number(0)),
    ...note(XEN_ELFNOTE_ENTRY, number(PRACTICE_BASE)),
  ];
  const code = NOTES + notes.length;
  const file = new Uint8Array(code + bytes.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setBigUint64(24, BigInt(PRACTICE_BASE), true);
  view.setBigUint64(32, BigInt(PROGRAM_HEADERS), true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 2, true);
  const segment = (index: number, type: number, offset: number, length: number, memory: number): void => {
    const at = PROGRAM_HEADERS + 56 * index;
    view.setUint32(at, type, true);
    view.setUint32(at + 4, 7, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 24, type === 1 ? BigInt(PRACTICE_BASE) : 0n, true);
    view.setBigUint64(at + 32, BigInt(length), true);
    view.setBigUint64(at + 40, BigInt(memory), true);
  };
  segment(0, 1, code, bytes.length, MEMORY_BYTES);
  segment(1, 4, NOTES, notes.length, notes.length);
  file.set(notes, NOTES);
  file.set(bytes, code);
  return file;
}
