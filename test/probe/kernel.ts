/** The kernel that makes the probe's calls and prints one line for each: its number, result and output. */
import { programKernel } from '../support/program-kernel.js';
import { BUF, BUF_BYTES, CALLS, FIX_KINDS, LIST, type Word } from './calls.js';

const CALL = 0x18_2000;

/**
 * Word 0: the number of words of input and list, the number of fix-ups, and the bytes of output; then the call's
 * number, its five arguments, and the rest.
 */
const KERNEL = `
    lea rbx, [table]
    xor ebp, ebp
  next:
    mov r12, [rbx]
    cmp r12, -1
    je done
    add rbx, 8
    cld
    xor eax, eax
    mov edi, ${BUF}
    mov ecx, ${BUF_BYTES / 8}
    rep stosq
    mov edi, ${LIST}
    mov ecx, 64
    rep stosq
    mov rsi, rbx
    mov edi, ${CALL}
    mov ecx, 6
    rep movsq
    mov edi, ${BUF}
    movzx ecx, r12b
    rep movsq
    shr r12, 8
    mov edi, ${LIST}
    movzx ecx, r12b
    rep movsq
    shr r12, 8
    movzx r13d, r12b
    shr r12, 8
    mov rbx, rsi
  fix:
    test r13d, r13d
    jz fixed
    dec r13d
    mov rdi, [rbx]
    mov rcx, [rbx+8]
    mov rdx, [rbx+16]
    add rbx, 24
    call value
    mov [rdi], rax
    jmp fix
  fixed:
    mov rax, [${CALL}]
    mov rdi, [${CALL}+8]
    mov rsi, [${CALL}+16]
    mov rdx, [${CALL}+24]
    mov r10, [${CALL}+32]
    mov r8, [${CALL}+40]
    syscall
    mov [result], rax
    ; what was printed before is kept, so that the calls do not disturb the console's own ring
    mov rax, rbp
    call hex
    lea rsi, [space]
    call print
    mov rax, [result]
    call hex
    xor r13d, r13d
  out:
    cmp r13, r12
    jae line
    lea rsi, [space]
    call print
    mov rax, [r13+${BUF}]
    call hex
    add r13, 8
    jmp out
  line:
    lea rsi, [newline]
    call print
    inc rbp
    jmp next
  done:
    lea rsi, [ended]
    call print
    jmp poweroff
  ; rcx: kind, rdx: its value; rax: what is meant. r8: the list of frames, r9: the first page table's frame
  value:
    mov r8, [r15+104]
    mov r9, [r15+88]
    shr r9, 12
    cmp ecx, 4
    je v_root
    cmp ecx, 1
    ja v_table
    mov rax, rdx
    shr rax, 12
    mov rax, [r8+rax*8]
    test ecx, ecx
    jz v_done
    shl rax, 12
    and edx, 4095
    or rax, rdx
    ret
  v_table:
    mov rax, rdx
    shr rax, 21
    add rax, r9
    mov rax, [r8+rax*8+24]
    cmp ecx, 3
    je v_done
    shl rax, 12
    cmp ecx, 5
    je v_flags
    mov rsi, rdx
    shr rsi, 9
    and esi, 0xff8
    or rax, rsi
  v_flags:
    and edx, 4095
    or rax, rdx
    ret
  v_root:
    mov rax, [r8+r9*8]
  v_done: ret
  result: dq 0
  space: ascii " \\u0000"
  newline: ascii "\\r\\n\\u0000"
  ended: ascii "PROBE ENDED\\r\\n\\u0000"
`;

function table(): string {
  const lines: string[] = [];
  const words = (list: readonly (number | bigint)[]): void => {
    if (list.length > 0) lines.push(`dq ${list.map((w) => BigInt.asUintN(64, BigInt(w))).join(', ')}`);
  };
  for (const c of CALLS) {
    const fixes: (number | bigint)[] = [];
    let count = 0;
    const plain = (list: readonly Word[], at: number): (number | bigint)[] =>
      list.map((word, i) => {
        if (typeof word !== 'object') return word;
        fixes.push(at + 8 * i, FIX_KINDS.indexOf(word.kind), word.value);
        count++;
        return 0;
      });
    const args = plain([...c.args, 0, 0, 0, 0, 0].slice(0, 5), CALL + 8);
    const input = plain(c.input, BUF);
    const list = plain(c.list, LIST);
    words([input.length + 0x100 * list.length + 0x1_0000 * count + 0x100_0000 * c.output, c.nr, ...args]);
    words(input);
    words(list);
    words(fixes);
  }
  return `table:\n${lines.join('\n')}\ndq -1\n`;
}

export const probeKernel = (): Uint8Array => programKernel(`${KERNEL}\n${table()}`);
