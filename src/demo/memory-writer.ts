/**
 * A program for a Linux guest that writes memory. It fills MIB MiB, page by page, each with a different value, and
 * then sleeps. With a second argument it repeats this for ever, and checks before each write that the page still
 * holds the value of the previous round.
 *
 *     writer MIB [again]
 *
 * It prints `WRITER round=N bad=COUNT` after the first round and after each 64th; `bad` counts pages with a wrong
 * value.
 */
import { executable } from '../asm/executable.js';
import { DECIMAL, NUMBERS_AND_TEXT, strings, TELL_ROUND } from './observing.js';

const SOURCE = `
  V_PAGES = 0
  V_AGAIN = 8
  V_MEMORY = 16
  V_ROUND = 24
  V_BAD = 32
  OUTBUF = 0x100
  start:
    mov r14, bss
    mov qword [r14+V_PAGES], 4096
    mov rbx, [rsp]
    cmp rbx, 2
    jb parsed
    mov rsi, [rsp+16]
    call decimal
    imul rax, rax, 256
    mov [r14+V_PAGES], rax
    cmp rbx, 3
    jb parsed
    mov qword [r14+V_AGAIN], 1
  parsed:
    mov eax, 9
    xor edi, edi
    mov rsi, [r14+V_PAGES]
    imul rsi, rsi, 4096
    mov edx, 3
    mov r10d, 0x22
    mov r8, -1
    xor r9d, r9d
    syscall
    mov [r14+V_MEMORY], rax
    mov qword [r14+V_ROUND], 1
  round:
    mov r12, [r14+V_MEMORY]
    xor r13d, r13d
  page:
    mov rax, [r14+V_ROUND]
    dec rax
    jz fresh
    shl rax, 32
    add rax, r13
    cmp [r12], rax
    jne bad
    cmp [r12+2048], rax
    jne bad
    cmp [r12+4088], rax
    je fresh
  bad:
    inc qword [r14+V_BAD]
  fresh:
    mov rax, [r14+V_ROUND]
    shl rax, 32
    add rax, r13
    mov rdi, r12
    mov ecx, 512
    rep stosq
    add r12, 4096
    inc r13
    cmp r13, [r14+V_PAGES]
    jb page
    mov rax, [r14+V_ROUND]
    and eax, 63
    cmp eax, 1
    jne quiet
    lea rsi, [s_round]
    call tell
  quiet:
    inc qword [r14+V_ROUND]
    cmp qword [r14+V_AGAIN], 0
    jne round
  asleep:
    mov eax, 34
    syscall
    jmp asleep

  ${TELL_ROUND}
  ${DECIMAL}
  ${NUMBERS_AND_TEXT}
  ${strings('s_round', ['WRITER round='])}
  ${strings('s_bad', [' bad='])}
`;

/** The executable file. */
export const memoryWriterElf = (): Uint8Array => executable(SOURCE, 0x1000);
