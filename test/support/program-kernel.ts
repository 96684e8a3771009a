/**
 * A PV kernel of a few lines of assembly as an ELF file, for tests that switch a guest on as a user does. It is linked
 * at address 0, like GRUB; r15 is the address of start_info. `call print` prints the zero-terminated text at rsi on the
 * console, `call hex` prints the word in rax; `jmp poweroff`, `jmp reboot` and `jmp crash` end the guest.
 */
import { assemble } from '../../src/asm/assembler.js';
import { BASIC, makeElf, NOTE } from '../guest/make-elf.js';

const LOAD = 0x10_0000n;
const BSS_BYTES = 0x2_0000n;

const ROUTINES = `
  ; the console page is two pages after start_info; ring: out at 1024, out_cons at 3080, out_prod at 3084
  print:
    mov al, [rsi]
    test al, al
    jz printed
    mov edx, [r15+0x2000+3084]
    mov ecx, edx
    sub ecx, [r15+0x2000+3080]
    cmp ecx, 2048
    jae full
    mov ecx, edx
    and ecx, 2047
    mov [r15+rcx+0x2000+1024], al
    inc edx
    mov [r15+0x2000+3084], edx
    inc rsi
    jmp print
  full:
    push rsi
    call notify
    mov edi, 0
    xor esi, esi
    mov eax, 29
    syscall
    pop rsi
    jmp print
  printed:
  notify:
    mov eax, [r15+80]
    mov [port], eax
    mov edi, 4
    lea rsi, [port]
    mov eax, 32
    syscall
    ret
  hex:
    lea rsi, [digits]
    mov ecx, 16
  hex1: rol rax, 4
    mov edx, eax
    and edx, 15
    add edx, 48
    cmp edx, 58
    jb hex2
    add edx, 39
  hex2: mov [rsi], dl
    inc rsi
    dec ecx
    jnz hex1
    lea rsi, [digits]
    jmp print
  poweroff: xor eax, eax
    jmp end
  reboot: mov eax, 1
    jmp end
  crash: mov eax, 3
  ; what was printed has to reach somebody first
  end:
    mov [port], eax
    mov r14d, eax
  drain:
    mov ecx, [r15+0x2000+3084]
    cmp ecx, [r15+0x2000+3080]
    je drained
    mov edi, 0
    xor esi, esi
    mov eax, 29
    syscall
    jmp drain
  drained:
    mov [port], r14d
    mov edi, 2
    lea rsi, [port]
    mov eax, 29
    syscall
    ud2
  port: dq 0
  digits: zero 24
`;

/** The kernel whose first instructions are `source`. */
export function programKernel(source: string): Uint8Array {
  const { bytes } = assemble(`mov r15, rsi\n${source}\n${ROUTINES}`, LOAD);
  return makeElf({
    entry: LOAD,
    load: [{ paddr: LOAD, data: bytes, memsz: BigInt(bytes.length) + BSS_BYTES }],
    notes: [...BASIC, { type: NOTE.virtBase, value: 0n }, { type: NOTE.entry, value: LOAD }],
  });
}
