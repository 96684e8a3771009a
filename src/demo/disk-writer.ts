/**
 * A program for a Linux guest that writes a disk and checks what it has written. Each round writes the next block of
 * 4096 bytes with a value of its own, past the guest's page cache, flushes the disk, and reads back that block and one
 * that was written earlier. It begins anew after the last block, and sleeps between two rounds.
 *
 *     diskwriter PATH BLOCKS INTERVAL_MS
 *
 * It prints `DISK rounds=N bad=COUNT` after each tenth round; `bad` counts what failed and what had a wrong value.
 */
import { executable } from '../asm/executable.js';
import { DECIMAL, NUMBERS_AND_TEXT, strings, TELL_ROUND } from './observing.js';

/** What it prints; its groups are the rounds and what was wrong. */
export const DISK_WROTE = /DISK rounds=(\d+) bad=(\d+)\n/;

const SOURCE = `
  V_FD = 0
  V_BLOCKS = 8
  V_MEMORY = 16
  V_ROUND = 24
  V_BAD = 32
  V_BLOCK = 40
  V_OTHER = 48
  V_SLEEP = 56
  V_TENTH = 72
  OUTBUF = 0x100
  start:
    mov r14, bss
    mov rsi, [rsp+24]
    call decimal
    mov [r14+V_BLOCKS], rax
    mov rsi, [rsp+32]
    call decimal
    imul rax, rax, 1000000
    mov [r14+V_SLEEP+8], rax
    ; O_RDWR | O_DIRECT
    mov eax, 2
    mov rdi, [rsp+16]
    mov esi, 0x4002
    xor edx, edx
    syscall
    mov [r14+V_FD], rax
    mov eax, 9
    xor edi, edi
    mov esi, 8192
    mov edx, 3
    mov r10d, 0x22
    mov r8, -1
    xor r9d, r9d
    syscall
    mov [r14+V_MEMORY], rax
    mov qword [r14+V_ROUND], 1
  round:
    mov rax, [r14+V_ROUND]
    mov rdi, [r14+V_MEMORY]
    mov ecx, 512
    rep stosq
    mov eax, 18
    mov rdi, [r14+V_FD]
    mov rsi, [r14+V_MEMORY]
    mov edx, 4096
    mov r10, [r14+V_BLOCK]
    shl r10, 12
    syscall
    cmp rax, 4096
    je wrote
    inc qword [r14+V_BAD]
  wrote:
    mov eax, 75
    mov rdi, [r14+V_FD]
    syscall
    test rax, rax
    jz flushed
    inc qword [r14+V_BAD]
  flushed:
    mov r12, [r14+V_BLOCK]
    mov r13, [r14+V_ROUND]
    call check
    ; another block, and the round in which it was written last
    mov r12, [r14+V_OTHER]
    mov rax, [r14+V_BLOCK]
    sub rax, r12
    jnc before
    add rax, [r14+V_BLOCKS]
  before:
    mov r13, [r14+V_ROUND]
    sub r13, rax
    jbe unwritten
    call check
  unwritten:
    mov rax, [r14+V_OTHER]
    add rax, 7
    cmp rax, [r14+V_BLOCKS]
    jb another
    sub rax, [r14+V_BLOCKS]
  another:
    mov [r14+V_OTHER], rax
    mov rax, [r14+V_BLOCK]
    inc rax
    cmp rax, [r14+V_BLOCKS]
    jb next
    xor eax, eax
  next:
    mov [r14+V_BLOCK], rax
    inc qword [r14+V_TENTH]
    cmp qword [r14+V_TENTH], 10
    jb quiet
    mov qword [r14+V_TENTH], 0
    lea rsi, [s_round]
    call tell
  quiet:
    mov eax, 35
    lea rdi, [r14+V_SLEEP]
    xor esi, esi
    syscall
    inc qword [r14+V_ROUND]
    jmp round

  ; block r12 holds the value r13 in each word, or it is bad
  check:
    mov eax, 17
    mov rdi, [r14+V_FD]
    mov rsi, [r14+V_MEMORY]
    add rsi, 4096
    mov edx, 4096
    mov r10, r12
    shl r10, 12
    syscall
    cmp rax, 4096
    jne wrong
    mov rdi, [r14+V_MEMORY]
    add rdi, 4096
    mov ecx, 512
  word:
    cmp [rdi], r13
    jne wrong
    add rdi, 8
    dec ecx
    jnz word
    ret
  wrong:
    inc qword [r14+V_BAD]
    ret

  ${TELL_ROUND}
  ${DECIMAL}
  ${NUMBERS_AND_TEXT}
  ${strings('s_round', ['DISK rounds='])}
  ${strings('s_bad', [' bad='])}
`;

/** The executable file. */
export const diskWriterElf = (): Uint8Array => executable(SOURCE, 0x1000);
