/** Programs in assembly for inside the guest, so that they need nothing of it but the kernel. */
import { executable } from '../../src/asm/executable.js';
import { DECIMAL, NUMBERS_AND_TEXT, strings } from '../../src/demo/observing.js';

/** Prints a text and a number, then the buffer's contents. */
const put = (text: string, value: string): string => `
    lea rsi, [${text}]
    call puts
    mov rax, ${value}
    call putdec`;
const WRITE_OUT = `
    mov byte [rdi], 10
    inc rdi
    mov rdx, rdi
    lea rsi, [r14+OUTBUF]
    sub rdx, rsi
    mov eax, 1
    mov edi, 1
    syscall`;
const EXIT = `
    mov eax, 60
    xor edi, edi
    syscall`;
/** rax = clock edi, ns. */
const CLOCK = `
  clock:
    mov eax, 228
    lea rsi, [r14+TS]
    syscall
    imul rax, [r14+TS], 1000000000
    add rax, [r14+TS+8]
    ret`;

/** `now`: the two clocks, ns. */
const NOW = `
  TS = 0
  OUTBUF = 0x100
    mov r14, bss
    mov edi, 0
    call clock
    mov r12, rax
    mov edi, 1
    call clock
    mov r13, rax
    lea rdi, [r14+OUTBUF]
    ${put('s_real', 'r12')}
    ${put('s_mono', 'r13')}
    ${WRITE_OUT}
    ${EXIT}
  ${CLOCK}
  ${NUMBERS_AND_TEXT}
  ${strings('s_real', ['NOW real='])}
  ${strings('s_mono', [' mono='])}
`;

/**
 * `clocks BURSTS`: one process on each vCPU reads CLOCK_MONOTONIC 100 times in each burst, with a pause of 1 ms between
 * bursts. No reading may be less than the one before on that vCPU, nor than the latest that any vCPU had read when the
 * burst began. Each vCPU has a slot of 64 bytes in shared memory: latest reading, number of readings, backward steps.
 */
const CLOCKS = `
  TS = 0
  BURSTS = 16
  CPUS = 24
  MASK = 32
  SHARED = 160
  OUTBUF = 0x200
    mov r14, bss
    mov rsi, [rsp+16]
    call decimal
    mov [r14+BURSTS], rax
    mov eax, 204
    xor edi, edi
    mov esi, 128
    lea rdx, [r14+MASK]
    syscall
    xor ecx, ecx
    mov rdx, [r14+MASK]
  count:
    mov rax, rdx
    dec rax
    and rdx, rax
    inc rcx
    test rdx, rdx
    jnz count
    mov [r14+CPUS], rcx
    mov eax, 9
    xor edi, edi
    mov esi, 4096
    mov edx, 3
    mov r10d, 0x21
    mov r8, -1
    xor r9d, r9d
    syscall
    mov [r14+SHARED], rax
    xor ebx, ebx
  start:
    mov eax, 57
    syscall
    test eax, eax
    jz child
    inc rbx
    cmp rbx, [r14+CPUS]
    jb start
  reap:
    mov eax, 61
    mov rdi, -1
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    syscall
    dec rbx
    jnz reap
    ; sums of all slots
    mov rcx, [r14+CPUS]
    mov rbp, [r14+SHARED]
    xor r12d, r12d
    xor r13d, r13d
  add1:
    add r12, [rbp+8]
    add r13, [rbp+16]
    add rbp, 64
    dec rcx
    jnz add1
    lea rdi, [r14+OUTBUF]
    ${put('s_cpus', '[r14+CPUS]')}
    ${put('s_reads', 'r12')}
    ${put('s_back', 'r13')}
    ${WRITE_OUT}
    ${EXIT}
  child:
    mov ecx, ebx
    mov eax, 1
    shl rax, cl
    mov [r14+MASK], rax
    mov eax, 203
    xor edi, edi
    mov esi, 8
    lea rdx, [r14+MASK]
    syscall
    mov rbp, rbx
    shl rbp, 6
    add rbp, [r14+SHARED]
  burst:
    mov r12d, 100
  read:
    ; the latest of all
    mov rcx, [r14+CPUS]
    mov rdx, [r14+SHARED]
    xor r13d, r13d
  latest:
    cmp r13, [rdx]
    jae older
    mov r13, [rdx]
  older:
    add rdx, 64
    dec rcx
    jnz latest
    mov edi, 1
    call clock
    cmp rax, r13
    jae forwards
    inc qword [rbp+16]
  forwards:
    mov [rbp], rax
    inc qword [rbp+8]
    dec r12
    jnz read
    mov qword [r14+TS], 0
    mov qword [r14+TS+8], 1000000
    mov eax, 35
    lea rdi, [r14+TS]
    xor esi, esi
    syscall
    dec qword [r14+BURSTS]
    jnz burst
    ${EXIT}
  ${CLOCK}
  ${DECIMAL}
  ${NUMBERS_AND_TEXT}
  ${strings('s_cpus', ['CLOCKS cpus='])}
  ${strings('s_reads', [' reads='])}
  ${strings('s_back', [' back='])}
`;

/**
 * `evtchn`: opens an event channel for domain 0 through /dev/xen/evtchn, waits for a line, signals the channel, and
 * prints the kernel's answer. Source: linux/include/uapi/xen/evtchn.h.
 */
const EVTCHN = `
  ARG = 0
  OUTBUF = 0x100
  BIND_UNBOUND_PORT = 0x44502
  NOTIFY = 0x44504
    mov r14, bss
    mov eax, 2
    lea rdi, [path]
    mov esi, 2
    xor edx, edx
    syscall
    mov r12, rax
    mov dword [r14+ARG], 0
    mov eax, 16
    mov rdi, r12
    mov esi, BIND_UNBOUND_PORT
    lea rdx, [r14+ARG]
    syscall
    mov rbx, rax
    lea rdi, [r14+OUTBUF]
    ${put('s_port', 'rbx')}
    ${WRITE_OUT}
    xor eax, eax
    xor edi, edi
    lea rsi, [r14+OUTBUF]
    mov edx, 16
    syscall
    mov [r14+ARG], ebx
    mov eax, 16
    mov rdi, r12
    mov esi, NOTIFY
    lea rdx, [r14+ARG]
    syscall
    mov r13, rax
    lea rdi, [r14+OUTBUF]
    ${put('s_sent', 'r13')}
    ${WRITE_OUT}
    ${EXIT}
  path: ascii "/dev/xen/evtchn"
    db 0
  ${NUMBERS_AND_TEXT}
  ${strings('s_port', ['EVTCHN port='])}
  ${strings('s_sent', ['EVTCHN answer='])}
`;

export const nowElf = (): Uint8Array => executable(NOW, 0x1000);
export const clocksElf = (): Uint8Array => executable(CLOCKS, 0x1000);
export const evtchnElf = (): Uint8Array => executable(EVTCHN, 0x1000);
