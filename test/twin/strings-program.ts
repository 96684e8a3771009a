/**
 * A program for inside the guest that spends its time in string instructions, in both directions, over memory that is
 * not mapped yet: half-done string instructions, and page faults within one, are then easy to find. It prints a
 * checksum.
 */
import { executable } from '../../src/asm/executable.js';

const BYTES = 0x40000;

const SOURCE = `
    lea rbp, [bss]
    mov r12d, 40
  again:
    ; fill, upwards and downwards
    cld
    mov rdi, rbp
    mov ecx, ${BYTES / 8}
    mov rax, 0x0123456789abcdef
    imul rax, r12
    rep stosq
    std
    lea rdi, [rbp+${2 * BYTES - 4}]
    mov ecx, ${BYTES / 4}
    rep stosd
    ; copy, bytes upwards and words downwards
    cld
    lea rsi, [rbp+1]
    lea rdi, [rbp+${2 * BYTES + 3}]
    mov ecx, ${BYTES}
    rep movsb
    std
    lea rsi, [rbp+${2 * BYTES - 2}]
    lea rdi, [rbp+${4 * BYTES - 2}]
    mov ecx, ${BYTES / 2}
    rep movsw
    cld
    ; compare and scan
    mov rsi, rbp
    mov rdi, rbp
    mov ecx, ${BYTES}
    repe cmpsb
    mov rbx, rcx
    mov rdi, rbp
    mov ecx, ${BYTES}
    mov al, 0
    repne scasb
    add rbx, rcx
    dec r12d
    jnz again
    ; checksum of all of it
    mov rsi, rbp
    mov ecx, ${BYTES / 2}
  sum:
    lodsq
    xor rbx, rax
    rol rbx, 7
    dec ecx
    jnz sum
    lea rdi, [text+8]
    mov ecx, 16
  digit:
    mov rax, rbx
    and eax, 15
    cmp al, 10
    jb decimal
    add al, 39
  decimal:
    add al, 48
    stosb
    shr rbx, 4
    dec ecx
    jnz digit
    mov eax, 1
    mov edi, 1
    lea rsi, [text]
    mov edx, 25
    syscall
    mov eax, 60
    xor edi, edi
    syscall
  text: ascii "STRINGS "
  zero 16
  db 10
`;

export const stringsElf = (): Uint8Array => executable(SOURCE, 4 * BYTES);
