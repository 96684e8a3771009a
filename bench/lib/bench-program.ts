// A static Linux program, assembled by our own assembler, that times system calls with the TSC (1 tick is 1 ns in our
// guests) and prints "BENCH name: ns" for each.
import { assemble } from '../../src/asm/assembler.js';

const BASE = 0x400000n;
const HEADER = 120;

const SOURCE = `
  start:
    ; getppid
    call begin
    mov r13d, 100000
  g1: mov eax, 110
    syscall
    dec r13d
    jnz g1
    lea rsi, [n_getppid]
    mov ecx, 100000
    call finish
    ; touched pages: mmap, one byte each, munmap
    mov eax, 9
    xor edi, edi
    mov esi, 16384000
    mov edx, 3
    mov r10d, 0x22
    mov r8, -1
    xor r9d, r9d
    syscall
    mov rbp, rax
    call begin
    mov r13d, 4000
  p1: mov byte [rbp], 1
    add rbp, 4096
    dec r13d
    jnz p1
    lea rsi, [n_fault]
    mov ecx, 4000
    call finish
    mov eax, 11
    lea rdi, [rbp-16384000]
    mov esi, 16384000
    syscall
    ; fork, exit, wait
    call begin
    mov r13d, 300
  f1: mov eax, 57
    syscall
    test eax, eax
    jz child
    mov rdi, -1
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    mov eax, 61
    syscall
    dec r13d
    jnz f1
    lea rsi, [n_fork]
    mov ecx, 300
    call finish
    ; pipe round trips with a child
    lea rdi, [there]
    mov eax, 22
    syscall
    lea rdi, [back]
    mov eax, 22
    syscall
    mov eax, 57
    syscall
    test eax, eax
    jz echo
    call begin
    mov r13d, 3000
  r1: mov edi, [there+4]
    lea rsi, [byte1]
    mov edx, 1
    mov eax, 1
    syscall
    mov edi, [back]
    lea rsi, [byte1]
    mov edx, 1
    xor eax, eax
    syscall
    dec r13d
    jnz r1
    lea rsi, [n_pipe]
    mov ecx, 3000
    call finish
  child:
    xor edi, edi
    mov eax, 231
    syscall
  echo:
    mov edi, [there]
    lea rsi, [byte1]
    mov edx, 1
    xor eax, eax
    syscall
    cmp eax, 1
    jne child
    mov edi, [back+4]
    lea rsi, [byte1]
    mov edx, 1
    mov eax, 1
    syscall
    jmp echo

  begin:
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r12, rax
    ret
  ; rsi: name, ecx: how many; prints BENCH name: ns each
  finish:
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r12
    xor edx, edx
    mov ecx, ecx
    div rcx
    lea rdi, [line+6]
  c1: mov dl, [rsi]
    test dl, dl
    jz c2
    mov [rdi], dl
    inc rsi
    inc rdi
    jmp c1
  c2: mov word [rdi], 0x203a
    add rdi, 2
    lea rsi, [digits+20]
    mov ecx, 10
  d1: xor edx, edx
    div rcx
    add dl, 48
    dec rsi
    mov [rsi], dl
    test rax, rax
    jnz d1
    lea rcx, [digits+20]
  d2: mov dl, [rsi]
    mov [rdi], dl
    inc rsi
    inc rdi
    cmp rsi, rcx
    jne d2
    mov byte [rdi], 10
    inc rdi
    lea rsi, [line]
    mov rdx, rdi
    sub rdx, rsi
    mov edi, 1
    mov eax, 1
    syscall
    ret
  n_getppid: ascii "getppid\\u0000"
  n_fault: ascii "anonymous page touched\\u0000"
  n_fork: ascii "fork, exit, wait\\u0000"
  n_pipe: ascii "pipe round trip\\u0000"
  there: dq 0
  back: dq 0
  byte1: dq 0
  digits: zero 24
  line: ascii "BENCH "
  zero 100
`;

/** Returns the program as an ELF file. */
export function benchProgram(): Uint8Array {
  const code = assemble(SOURCE, BASE + BigInt(HEADER));
  const file = new Uint8Array(HEADER + code.bytes.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, code.labels.get('start') ?? BASE, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true);
  view.setUint32(68, 7, true);
  view.setBigUint64(80, BASE, true);
  view.setBigUint64(88, BASE, true);
  view.setBigUint64(96, BigInt(file.length), true);
  view.setBigUint64(104, BigInt(file.length), true);
  view.setBigUint64(112, 4096n, true);
  file.set(code.bytes, HEADER);
  return file;
}
