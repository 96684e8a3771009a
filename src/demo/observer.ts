/**
 * The observer: a program inside a Linux guest that every few milliseconds looks at everything that the guest can see
 * of its machine and its hypervisor, and reports when anything differs from what it saw first. It is a static ELF
 * executable written in assembly, so it needs no compiler and no library, and nothing of the guest except the kernel.
 *
 *     observer [INTERVAL_MS [SAMPLES]]        (0 samples: until it is stopped through standard input; default 10, 0)
 *
 * Each sample covers: every clock and the TSC, on the vCPUs in turn; the domain's xenstore subtree through
 * /dev/xen/xenbus; interrupts and their event channels; cpuinfo; all of /sys/hypervisor; native and forced-emulation
 * CPUID; the memory map; and one step of a computation whose result the reader can check (`chainAfter` in
 * observing.ts). It prints
 *
 *     OBS START view=BYTES
 *     OBS n=.. cpus=.. mono=NS real=NS tsc=.. gap=NS back=COUNT diff=COUNT chain=HEX     every 50 samples
 *     OBS DIFF at=BYTE was=TEXT now=TEXT                                                 on any difference
 *     OBS VERDICT n=.. (as above)                                                        on `v` or at the end
 *
 * A sample takes some hundred system calls and more time than the interval. Therefore the monotonic clock is also
 * read before each of them: `gap` is the longest time between two readings, minus the interval if the program slept
 * in between. `back` counts clocks that ran backwards. Typing `q` ends the program, `v` asks for a verdict, `r`
 * restarts the measurement of `gap`.
 */
import { executable } from '../asm/executable.js';
import {
  DECIMAL,
  EVERY_FIFTY,
  FLUSH,
  LEAF_OUT,
  MESSAGES,
  REPORTING,
  SAMPLE_CLOCKS,
  STEP_AND_COMPARE,
  strings,
  VARIABLES,
} from './observing.js';

const BSS_BYTES = 0x100000;

const FILES = [
  '/proc/cpuinfo',
  '/proc/iomem',
  '/proc/cmdline',
  '/proc/version',
  '/sys/hypervisor/type',
  '/sys/hypervisor/uuid',
  '/sys/hypervisor/guest_type',
  '/sys/hypervisor/version/major',
  '/sys/hypervisor/version/minor',
  '/sys/hypervisor/version/extra',
  '/sys/hypervisor/properties/capabilities',
  '/sys/hypervisor/properties/changeset',
  '/sys/hypervisor/properties/features',
  '/sys/hypervisor/properties/pagesize',
  '/sys/hypervisor/properties/virtual_start',
  '/sys/hypervisor/compilation/compiler',
  '/sys/hypervisor/compilation/compiled_by',
  '/sys/hypervisor/compilation/compile_date',
  '/sys/devices/system/clocksource/clocksource0/current_clocksource',
  '/sys/devices/system/clocksource/clocksource0/available_clocksource',
];
const STORE = ['domid', 'name', 'vm', 'cpu', 'memory', 'device', 'console', 'store', 'control'];
const LEAVES = [
  0, 1, 2, 4, 5, 6, 7, 0xa, 0xd, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005,
  0x80000006, 0x80000007, 0x80000008,
];
const XEN_LEAVES = [0x40000000, 0x40000001, 0x40000002, 0x40000003, 0x40000004];

const SOURCE = `
  ${VARIABLES}
  start:
    mov r14, bss
    mov qword [r14+V_INTERVAL], 10
    mov qword [r14+V_CHAIN], 1
    mov rbx, [rsp]
    cmp rbx, 2
    jb parsed
    mov rsi, [rsp+16]
    call decimal
    mov [r14+V_INTERVAL], rax
    cmp rbx, 3
    jb parsed
    mov rsi, [rsp+24]
    call decimal
    mov [r14+V_SAMPLES], rax
  parsed:
    imul rax, [r14+V_INTERVAL], 1000000
    mov [r14+V_INTERVAL], rax
    ; how many processors are there
    mov eax, 204
    xor edi, edi
    mov esi, 128
    lea rdx, [r14+V_MASK]
    syscall
    popmask:
    xor ecx, ecx
    mov rdx, [r14+V_MASK]
  countcpu:
    test rdx, rdx
    jz counted
    mov rax, rdx
    dec rax
    and rdx, rax
    inc ecx
    jmp countcpu
  counted:
    mov [r14+V_CPUS], rcx
    mov eax, 2
    lea rdi, [xenbus]
    mov esi, 2
    xor edx, edx
    syscall
    mov [r14+V_XSFD], rax
    ; two views one after the other: what changes by itself at start has settled in the second
    lea r15, [r14+VIEW0]
    call view
    lea r15, [r14+VIEW0]
    call view
    lea rax, [r14+VIEW0]
    mov rcx, r15
    sub rcx, rax
    mov [r14+V_LEN0], rcx
    lea rdi, [r14+OUTBUF]
    lea rsi, [s_start]
    call puts
    mov rax, [r14+V_LEN0]
    call putdec
    call flush
    call clocks
    mov rax, [r14+V_MONO]
    mov [r14+V_LAST], rax
    mov [r14+V_NEXT], rax
    mov qword [r14+V_GAP], 0

  sample:
    ; the next processor in turn
    mov rcx, [r14+V_CPU]
    inc rcx
    cmp rcx, [r14+V_CPUS]
    jb cpuok
    xor ecx, ecx
  cpuok:
    mov [r14+V_CPU], rcx
    mov eax, 1
    shl rax, cl
    mov [r14+V_MASK], rax
    mov eax, 203
    xor edi, edi
    mov esi, 8
    lea rdx, [r14+V_MASK]
    syscall
    ${SAMPLE_CLOCKS}
    ${STEP_AND_COMPARE}
  ${EVERY_FIFTY}
  quiet:
    ; a key?
    mov dword [r14+V_TS], 0
    mov dword [r14+V_TS+4], 1
    mov eax, 7
    lea rdi, [r14+V_TS]
    mov esi, 1
    xor edx, edx
    syscall
    cmp eax, 1
    jne nokey
    test dword [r14+V_TS+4], 0x10000
    jz nokey
    xor eax, eax
    xor edi, edi
    lea rsi, [r14+V_TS]
    mov edx, 1
    syscall
    cmp rax, 1
    jne nokey
    mov al, [r14+V_TS]
    cmp al, 'q'
    je finish
    cmp al, 'r'
    je again
    cmp al, 'v'
    jne nokey
    lea rsi, [s_verdict]
    call report
    jmp nokey
  again:
    mov qword [r14+V_GAP], 0
  nokey:
    mov rax, [r14+V_N]
    cmp rax, [r14+V_SAMPLES]
    je finish
    ; until the next multiple of the interval, on the monotonic clock; never two in a hurry after a delay
    call look
    mov rcx, [r14+V_NEXT]
    add rcx, [r14+V_INTERVAL]
    cmp rcx, rax
    jge future
    mov rcx, rax
  future:
    mov [r14+V_NEXT], rcx
    mov rax, rcx
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [r14+V_TS], rax
    mov [r14+V_TS+8], rdx
    mov eax, 230
    mov edi, 1
    mov esi, 1
    lea rdx, [r14+V_TS]
    xor r10d, r10d
    syscall
    jmp sample

  finish:
    lea rsi, [s_verdict]
    call report
    mov eax, 60
    xor edi, edi
    syscall

  ; rsi = decimal text -> rax
  ${DECIMAL}

  ; the monotonic clock, and how long it was not looked at; other registers stay
  look:
    push rdi
    push rsi
    push rcx
    push r11
    call clocks_now
    mov rcx, rax
    sub rcx, [r14+V_LAST]
    cmp rcx, [r14+V_GAP]
    jle nolonger
    mov [r14+V_GAP], rcx
  nolonger:
    mov [r14+V_LAST], rax
    pop r11
    pop rcx
    pop rsi
    pop rdi
    ret

  ; all clocks, nanoseconds and ticks
  clocks:
    mov edi, 0
    call clock
    mov [r14+V_REAL], rax
    mov edi, 1
    call clock
    mov [r14+V_MONO], rax
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov [r14+V_TSC], rax
    ret
  clocks_now:
    mov edi, 1
  clock:
    mov eax, 228
    lea rsi, [r14+V_TS]
    syscall
    imul rax, [r14+V_TS], 1000000000
    add rax, [r14+V_TS+8]
    ret

  ; appends everything that can be seen at r15
  view:
    lea rbx, [files]
  nextfile:
    cmp byte [rbx], 0
    je filesdone
    mov rdi, rbx
    mov rsi, r15
    call slurp
    add r15, rax
  skipname:
    inc rbx
    cmp byte [rbx-1], 0
    jne skipname
    jmp nextfile
  filesdone:
    ; interrupts, without their counts
    lea rdi, [interrupts]
    lea rsi, [r14+FILEBUF]
    call slurp
    lea rsi, [r14+FILEBUF]
    lea rbp, [rsi+rax]
    mov r8d, 32
  token:
    cmp rsi, rbp
    jae tokens
    mov al, [rsi]
    cmp r8b, 32
    je wordstart
    cmp r8b, 10
    je wordstart
    jmp keep
  wordstart:
    cmp al, 32
    je dropchar
    mov rdi, rsi
  digitrun:
    mov al, [rdi]
    sub al, 48
    cmp al, 9
    ja rundone
    inc rdi
    jmp digitrun
  rundone:
    mov al, [rsi]
    cmp rdi, rsi
    je keep
    cmp byte [rdi], 32
    je dropword
    cmp byte [rdi], 10
    je dropword
    jmp keep
  dropword:
    mov rsi, rdi
    jmp token
  keep:
    mov [r15], al
    inc r15
    mov r8b, al
  dropchar:
    inc rsi
    jmp token
  tokens:
    ; processor identity, native and through the hypervisor
    lea rbp, [leaves]
  nextleaf:
    mov eax, [rbp]
    cmp eax, -1
    je leavesdone
    xor ecx, ecx
    cpuid
    cmp dword [rbp], 1
    jne notone
    and ebx, 0x00ffffff
  notone:
    call leafout
    add rbp, 4
    jmp nextleaf
  leavesdone:
    lea rbp, [xenleaves]
  nextxen:
    mov eax, [rbp]
    cmp eax, -1
    je xendone
    xor ecx, ecx
    db 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2
    call leafout
    add rbp, 4
    jmp nextxen
  xendone:
    ; xenstore
    cmp qword [r14+V_XSFD], 0
    jl nostore
    lea rbx, [store]
  nexttop:
    cmp byte [rbx], 0
    je nostore
    lea rdi, [r14+PATHBUF]
    mov rsi, rbx
    call puts
    inc rsi
    mov rbx, rsi
    lea rax, [r14+PATHBUF]
    sub rdi, rax
    mov [r14+V_PATHLEN], rdi
    call node
    jmp nexttop
  nostore:
    lea rax, [r14+VIEW0]
    ret

  ; one node and all below it; path in PATHBUF
  node:
    push rbx
    sub rsp, 4096
    lea rdi, [r15]
    lea rsi, [r14+PATHBUF]
    mov rcx, [r14+V_PATHLEN]
    rep movsb
    mov byte [rdi], '='
    lea r15, [rdi+1]
    mov eax, 2
    call ask
    lea rsi, [r14+XSBUF+16]
    mov rdi, r15
    mov rcx, rax
    rep movsb
    mov byte [rdi], 10
    lea r15, [rdi+1]
    mov eax, 1
    call ask
    test rax, rax
    jz leaf
    cmp rax, 4096
    ja leaf
    lea rsi, [r14+XSBUF+16]
    mov rdi, rsp
    mov rcx, rax
    rep movsb
    lea r9, [rsp+rax]
    mov rbx, rsp
  child:
    cmp rbx, r9
    jae leaf
    mov rdi, [r14+V_PATHLEN]
    push rdi
    push r9
    lea rdi, [r14+PATHBUF+rdi]
    mov byte [rdi], '/'
    inc rdi
    mov rsi, rbx
    call puts
    lea rbx, [rsi+1]
    lea rax, [r14+PATHBUF]
    sub rdi, rax
    mov [r14+V_PATHLEN], rdi
    call node
    pop r9
    pop rdi
    mov [r14+V_PATHLEN], rdi
    jmp child
  leaf:
    add rsp, 4096
    pop rbx
    ret

  ; eax = request type, path in PATHBUF -> rax = payload length, payload in XSBUF+16; 0 on an error reply
  ask:
    push rax
    call look
    pop rax
    mov rdx, [r14+V_PATHLEN]
    lea rdi, [r14+XSBUF]
    mov [rdi], eax
    mov dword [rdi+4], 7
    mov dword [rdi+8], 0
    lea ecx, [rdx+1]
    mov [rdi+12], ecx
    add rdi, 16
    lea rsi, [r14+PATHBUF]
    mov rcx, rdx
    rep movsb
    mov byte [rdi], 0
    mov eax, 1
    mov rdi, [r14+V_XSFD]
    lea rsi, [r14+XSBUF]
    add rdx, 17
    syscall
    xor r8d, r8d
  more:
    xor eax, eax
    mov rdi, [r14+V_XSFD]
    lea rsi, [r14+XSBUF+r8]
    mov edx, 0x2000
    sub rdx, r8
    syscall
    test rax, rax
    jle failed
    add r8, rax
    cmp r8, 16
    jb more
    mov ecx, [r14+XSBUF+12]
    lea rdx, [rcx+16]
    cmp r8, rdx
    jb more
    cmp dword [r14+XSBUF], 16
    je failed
    mov rax, rcx
    ret
  failed:
    xor eax, eax
    ret

  ; rdi = path, rsi = where to -> rax = bytes
  slurp:
    push rbx
    push r12
    push r13
    mov r12, rsi
    call look
    mov eax, 2
    xor esi, esi
    xor edx, edx
    syscall
    test eax, eax
    js nofile
    mov ebx, eax
    xor r13d, r13d
  readmore:
    xor eax, eax
    mov edi, ebx
    lea rsi, [r12+r13]
    mov edx, 0x8000
    syscall
    test rax, rax
    jle readall
    add r13, rax
    cmp r13, 0x20000
    jb readmore
  readall:
    mov eax, 3
    mov edi, ebx
    syscall
    mov rax, r13
    jmp slurped
  nofile:
    xor eax, eax
  slurped:
    pop r13
    pop r12
    pop rbx
    ret

  ${LEAF_OUT}

  ${REPORTING}
  ${FLUSH}

  align 16
  leaves: dd ${LEAVES.join(', ')}, -1
  xenleaves: dd ${XEN_LEAVES.join(', ')}, -1
  xenbus: ascii "/dev/xen/xenbus"
  db 0
  interrupts: ascii "/proc/interrupts"
  db 0
  ${strings('files', FILES)}
  ${strings('store', STORE)}
  ${MESSAGES}
`;

/** The executable file. */
export function observerElf(): Uint8Array {
  return executable(SOURCE, BSS_BYTES);
}
