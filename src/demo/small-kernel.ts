/**
 * A PV kernel of our own, in assembly. The demo and fast tests run it when no Debian kernel is available. It has no
 * code for suspending at all. It boots like any Xen PV kernel (ELF notes, hypercalls with `syscall`), gets its ticks
 * from a single-shot timer through event upcalls, and uses the rings of xenstore and console. In each tick it looks
 * at everything that a PV kernel can see: clocks, TSC, start_info, M2P and page-table entries, cr3, event-channel
 * ports, grant frames, all parts of xen_version, reservations, native and forced CPUID, and its xenstore subtree. It
 * prints the same lines as the observer for Linux (see observer.ts, observing.ts).
 *
 * Command line: `interval_ms=N samples=N` (0 samples: until `q` is typed); then it powers off. Typing `d` prints the
 * whole view as text, so that it can be compared with what the kernel sees on another Xen.
 */
import { assemble } from '../asm/assembler.js';
import {
  DECIMAL,
  EVERY_FIFTY,
  LEAF_OUT,
  MESSAGES,
  REPORTING,
  SAMPLE_CLOCKS,
  STEP_AND_COMPARE,
  strings,
  VARIABLES,
} from './observing.js';

const VIRT_BASE = 0xffffffff80000000n;
const LOAD = 0x100000n;
const BSS_OFFSET = 0x10000n;
const BSS_BYTES = 0x100000n;

const STORE = ['domid', 'name', 'vm', 'cpu', 'memory', 'device', 'console', 'store', 'control'];
const LEAVES = [
  0, 1, 2, 4, 5, 6, 7, 0xa, 0xd, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000008,
];
const XEN_LEAVES = [0x40000000, 0x40000001, 0x40000002, 0x40000003, 0x40000004];

const SOURCE = `
  ${VARIABLES}
  V_START = 200
  V_CONSOLE = 208
  V_STORE = 216
  V_TIMERPORT = 224
  V_CONSPORT = 228
  V_STOREPORT = 232
  V_TICKS = 240
  V_ARG = 600
  V_GRANTS = 700
  V_KEY = 720
  SHARED = 0x2000
  ; offsets in struct shared_info, vcpu_info of vCPU 0 first
  UPCALL_PENDING = 0
  UPCALL_MASK = 1
  PENDING_SEL = 8
  TIME = 32
  EVTCHN_PENDING = 2048
  EVTCHN_MASK = 2560
  WC_VERSION = 3072
  MSG = 0x6000

  entry:
    cld
    mov r14, bss
    mov [r14+V_START], rsi
    mov qword [r14+V_INTERVAL], 10000000
    mov qword [r14+V_CHAIN], 1
    mov qword [r14+V_CPUS], 1
    ; shared_info into our own page
    lea rdi, [r14+SHARED]
    mov rsi, [rsi+40]
    or rsi, 7
    mov edx, 2
    mov eax, 14
    syscall
    ; traps and the event callback
    lea rdi, [traps]
    xor eax, eax
    syscall
    lea rdi, [onevent]
    lea rsi, [onfailsafe]
    lea rdx, [onsyscall]
    mov eax, 4
    syscall
    ; console and xenstore pages: machine frame -> ours by the M2P table -> address in the first mapping
    mov rbx, [r14+V_START]
    mov rax, [rbx+72]
    call pageof
    mov [r14+V_CONSOLE], rax
    mov eax, [rbx+80]
    mov [r14+V_CONSPORT], eax
    mov rax, [rbx+56]
    call pageof
    mov [r14+V_STORE], rax
    mov eax, [rbx+64]
    mov [r14+V_STOREPORT], eax
    ; the store's port is only ever polled
    mov eax, [r14+V_STOREPORT]
    lock bts [r14+SHARED+EVTCHN_MASK], rax
    ; command line
    lea rsi, [rbx+128]
  word:
    cmp byte [rsi], 0
    je worded
    mov rax, [rsi]
    cmp rax, [w_interval]
    jne notinterval
    add rsi, 12
    call decimal
    imul rax, rax, 1000000
    mov [r14+V_INTERVAL], rax
    jmp word
  notinterval:
    cmp rax, [w_samples]
    jne notsamples
    add rsi, 8
    call decimal
    mov [r14+V_SAMPLES], rax
    jmp word
  notsamples:
    inc rsi
    jmp word
  worded:
    ; a timer, an IPI port and an unbound port of our own, so that there is something to see
    lea rsi, [r14+V_ARG]
    mov qword [rsi], 0
    mov dword [rsi+8], 0
    mov edi, 1
    mov eax, 32
    syscall
    mov eax, [r14+V_ARG+8]
    mov [r14+V_TIMERPORT], eax
    lea rsi, [r14+V_ARG]
    mov qword [rsi], 0
    mov edi, 7
    mov eax, 32
    syscall
    lea rsi, [r14+V_ARG]
    mov dword [rsi], 0x7ff07ff0
    mov dword [rsi+4], 0
    mov edi, 6
    mov eax, 32
    syscall
    ; one grant frame
    lea rsi, [r14+V_ARG]
    mov dword [rsi], 0x7ff0
    mov dword [rsi+4], 1
    mov qword [rsi+8], 0
    lea rax, [r14+V_GRANTS]
    mov [rsi+16], rax
    mov edi, 2
    mov edx, 1
    mov eax, 20
    syscall
    ; two views: what changes by itself at start has settled in the second
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
    mov byte [r14+SHARED+UPCALL_MASK], 0
    call clocks
    mov rax, [r14+V_MONO]
    mov [r14+V_LAST], rax
    mov [r14+V_NEXT], rax

  sample:
    ${SAMPLE_CLOCKS}
    ${STEP_AND_COMPARE}
  ${EVERY_FIFTY}
  quiet:
    mov rax, [r14+V_N]
    cmp rax, [r14+V_SAMPLES]
    je finish
    mov rcx, [r14+V_NEXT]
    add rcx, [r14+V_INTERVAL]
    mov rax, [r14+V_MONO]
    cmp rcx, rax
    jge future
    mov rcx, rax
  future:
    mov [r14+V_NEXT], rcx
    ; VCPUOP_set_singleshot_timer at that time, then block until its event has come
    mov [r14+V_ARG], rcx
    mov dword [r14+V_ARG+8], 0
    mov edi, 8
    xor esi, esi
    lea rdx, [r14+V_ARG]
    mov rbx, [r14+V_TICKS] ; before the call: the timer may be due at once
    mov eax, 24
    syscall
  asleep:
    call keys
    cmp [r14+V_TICKS], rbx
    jne sample
    mov byte [r14+SHARED+UPCALL_MASK], 1
    cmp [r14+V_TICKS], rbx
    jne awake
    mov edi, 1
    xor esi, esi
    mov eax, 29
    syscall
    jmp asleep
  awake:
    mov byte [r14+SHARED+UPCALL_MASK], 0
    jmp sample

  keys:
    mov rsi, [r14+V_CONSOLE]
    mov eax, [rsi+3072]
    cmp eax, [rsi+3076]
    je nokey
    mov ecx, eax
    and ecx, 1023
    mov dl, [rsi+rcx]
    inc eax
    mov [rsi+3072], eax
    mov [r14+V_KEY], dl
    mov eax, [r14+V_CONSPORT]
    call send
    mov dl, [r14+V_KEY]
    cmp dl, 'q'
    je finish
    cmp dl, 'r'
    je restartgap
    cmp dl, 'd'
    je dump
    cmp dl, 'v'
    jne keys
    lea rsi, [s_verdict]
    call report
    jmp keys
  dump:
    lea rsi, [r14+VIEW0]
    mov rdx, [r14+V_LEN0]
    add rdx, rsi
    call print
    jmp keys
  restartgap:
    mov qword [r14+V_GAP], 0
    jmp keys
  nokey:
    ret

  finish:
    lea rsi, [s_verdict]
    call report
  poweroff:
    mov dword [r14+V_ARG], 0
    mov edi, 2
    lea rsi, [r14+V_ARG]
    mov eax, 29
    syscall
    jmp poweroff

  ; the event upcall: which ports, and our timer among them
  onevent:
    pop rcx
    pop r11
    push rax
    push rbx
    push rdx
    push r14
    mov r14, bss
    mov byte [r14+SHARED+UPCALL_PENDING], 0
    xor eax, eax
    xchg [r14+SHARED+PENDING_SEL], rax
    mov rdx, [r14+SHARED+EVTCHN_MASK]
    not rdx
    and rdx, [r14+SHARED+EVTCHN_PENDING]
    mov rbx, rdx
    not rbx
    lock and [r14+SHARED+EVTCHN_PENDING], rbx
    mov eax, [r14+V_TIMERPORT]
    bt rdx, rax
    jnc nottimer
    inc qword [r14+V_TICKS]
  nottimer:
    pop r14
    pop rdx
    pop rbx
    pop rax
  return:
    push 0
    push rcx
    push r11
    push rax
    mov eax, 23
    syscall
  onfailsafe:
  onsyscall:
    ud2

  ; any exception is a mistake of ours: say where and crash
  onfault:
    mov r14, bss
    mov rbx, rsp
    lea rdi, [r14+OUTBUF]
    lea rsi, [s_fault]
    call puts
    mov rbp, 8
  word2:
    mov rax, [rbx]
    call puthex
    mov byte [rdi], 32
    inc rdi
    add rbx, 8
    dec rbp
    jnz word2
    call flush
    mov dword [r14+V_ARG], 3
    mov edi, 2
    lea rsi, [r14+V_ARG]
    mov eax, 29
    syscall
    ud2

  ; rax = machine frame -> rax = address
  pageof:
    mov rcx, 0xffff800000000000
    mov rax, [rcx+rax*8]
    shl rax, 12
    mov rcx, ${VIRT_BASE}
    add rax, rcx
    ret

  ; eax = port
  send:
    mov [r14+V_ARG], eax
    mov edi, 4
    lea rsi, [r14+V_ARG]
    mov eax, 32
    syscall
    ret

  ${DECIMAL}

  ; system time and wall clock by the version protocol; the TSC
  clocks:
    mov r8d, [r14+SHARED+TIME]
    test r8d, 1
    jnz clocks
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov [r14+V_TSC], rax
    sub rax, [r14+SHARED+TIME+8]
    mov cl, [r14+SHARED+TIME+28]
    test cl, cl
    js shiftdown
    shl rax, cl
    jmp shifted
  shiftdown:
    neg cl
    shr rax, cl
  shifted:
    mov edx, [r14+SHARED+TIME+24]
    mul rdx
    shrd rax, rdx, 32
    add rax, [r14+SHARED+TIME+16]
    cmp r8d, [r14+SHARED+TIME]
    jne clocks
    mov [r14+V_MONO], rax
  wall:
    mov r8d, [r14+SHARED+WC_VERSION]
    test r8d, 1
    jnz wall
    mov ecx, [r14+SHARED+WC_VERSION+12]
    shl rcx, 32
    mov edx, [r14+SHARED+WC_VERSION+4]
    or rcx, rdx
    imul rcx, rcx, 1000000000
    mov edx, [r14+SHARED+WC_VERSION+8]
    add rcx, rdx
    cmp r8d, [r14+SHARED+WC_VERSION]
    jne wall
    add rax, rcx
    mov [r14+V_REAL], rax
    ret

  ; appends everything that can be seen at r15
  view:
    ; start_info without its command line, and where the tables are
    mov rsi, [r14+V_START]
    mov ebp, 16
  sinfo:
    mov rax, [rsi]
    push rsi
    mov rdi, r15
    call puthex
    mov byte [rdi], 10
    lea r15, [rdi+1]
    pop rsi
    add rsi, 8
    dec ebp
    jnz sinfo
    mov rax, cr3
    call hexline
    mov rbx, [r14+V_START]
    mov rsi, [rbx+88]
    mov rax, [rsi+4088]
    and rax, -97
    call hexline
    mov rcx, 0xffff800000000000
    mov rax, [rbx+72]
    mov rax, [rcx+rax*8]
    call hexline
    mov rax, [r14+V_GRANTS]
    call hexline
    ; ports: type and far end of the first ten
    xor ebp, ebp
  port:
    lea rsi, [r14+V_ARG]
    mov dword [rsi], 0x7ff0
    mov [rsi+4], ebp
    mov qword [rsi+8], 0
    mov qword [rsi+16], 0
    mov edi, 5
    mov eax, 32
    syscall
    call hexline
    mov rax, [r14+V_ARG+8]
    call hexline
    mov rax, [r14+V_ARG+16]
    call hexline
    inc ebp
    cmp ebp, 10
    jb port
    ; xen_version: numbers, then texts
    lea rbp, [versions]
  version:
    movsx rdi, byte [rbp]
    cmp edi, -1
    je versioned
    lea rsi, [r14+MSG]
    push rdi
    mov rdi, rsi
    mov ecx, 1024
    xor eax, eax
    rep stosb
    pop rdi
    lea rsi, [r14+MSG]
    mov eax, 17
    syscall
    call hexline
    lea rsi, [r14+MSG]
    mov ecx, 1024
  vtext:
    mov al, [rsi]
    inc rsi
    test al, al
    jz vskip
    mov [r15], al
    inc r15
  vskip:
    dec ecx
    jnz vtext
    mov byte [r15], 10
    inc r15
    inc rbp
    jmp version
  versioned:
    ; memory: maximum_ram_page, current and maximum reservation, machphys_mapping
    lea rbp, [memories]
  memory:
    movsx rdi, byte [rbp]
    cmp edi, -1
    je remembered
    lea rsi, [r14+MSG]
    mov qword [rsi], 0x7ff0
    mov qword [rsi+8], 0
    mov qword [rsi+16], 0
    mov eax, 12
    syscall
    call hexline
    mov rax, [r14+MSG]
    call hexline
    mov rax, [r14+MSG+8]
    call hexline
    mov rax, [r14+MSG+16]
    call hexline
    inc rbp
    jmp memory
  remembered:
    lea rbp, [leaves]
  nextleaf:
    mov eax, [rbp]
    cmp eax, -1
    je leavesdone
    xor ecx, ecx
    cpuid
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
    lea rbx, [store]
  nexttop:
    cmp byte [rbx], 0
    je viewed
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
  viewed:
    ret

  ; one node and all below it; path in PATHBUF. Children wait on our own stack of buffers, one per depth
  node:
    push rbx
    push rbp
    mov rdi, r15
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
    jz leafnode
    cmp rax, 2048
    ja leafnode
    mov rbp, [r14+V_DEPTH]
    lea rdi, [r14+rbp+0x20000]
    lea rsi, [r14+XSBUF+16]
    mov rbx, rdi
    mov rcx, rax
    rep movsb
    mov r9, rdi
    add qword [r14+V_DEPTH], 2048
  child:
    cmp rbx, r9
    jae children
    mov rdi, [r14+V_PATHLEN]
    push rdi
    push r9
    lea rdi, [r14+rdi+PATHBUF]
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
  children:
    sub qword [r14+V_DEPTH], 2048
  leafnode:
    pop rbp
    pop rbx
    ret

  ; eax = request type, path in PATHBUF -> rax = payload length, payload in XSBUF+16; 0 on an error reply
  ask:
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
    ; into the ring: it is empty, since we wait for each answer
    add rdx, 17
    lea rsi, [r14+XSBUF]
    mov rdi, [r14+V_STORE]
    mov eax, [rdi+2052]
  putreq:
    mov ecx, eax
    and ecx, 1023
    mov r8b, [rsi]
    mov [rdi+rcx], r8b
    inc eax
    inc rsi
    dec rdx
    jnz putreq
    mov [rdi+2052], eax
    mov eax, [r14+V_STOREPORT]
    call send
    xor r8d, r8d
  answer:
    mov rdi, [r14+V_STORE]
    mov eax, [rdi+2056]
  getrsp:
    cmp eax, [rdi+2060]
    je drained
    mov ecx, eax
    and ecx, 1023
    mov dl, [rdi+rcx+1024]
    mov [r14+r8+XSBUF], dl
    inc r8
    inc eax
    jmp getrsp
  drained:
    mov [rdi+2056], eax
    cmp r8, 16
    jb waitmore
    mov ecx, [r14+XSBUF+12]
    lea rdx, [rcx+16]
    cmp r8, rdx
    jae answered
  waitmore:
    push r8
    mov eax, [r14+V_STOREPORT]
    call send
    ; SCHEDOP_poll for the store's port; its pending bit goes first, then the ring is looked at again
    mov eax, [r14+V_STOREPORT]
    lock btr [r14+SHARED+EVTCHN_PENDING], rax
    mov rdi, [r14+V_STORE]
    mov eax, [rdi+2056]
    cmp eax, [rdi+2060]
    jne nowait
    lea rsi, [r14+V_ARG]
    lea rax, [r14+V_STOREPORT]
    mov [rsi], rax
    mov dword [rsi+8], 1
    mov qword [rsi+16], 0
    mov edi, 3
    mov eax, 29
    syscall
  nowait:
    pop r8
    jmp answer
  answered:
    mov eax, [r14+V_STOREPORT]
    call send
    mov ecx, [r14+XSBUF+12]
    cmp dword [r14+XSBUF], 16
    je failed
    mov rax, rcx
    ret
  failed:
    xor eax, eax
    ret

  hexline:
    mov rdi, r15
    call puthex
    mov byte [rdi], 10
    lea r15, [rdi+1]
    ret
  ${LEAF_OUT}

  ${REPORTING}

  ; OUTBUF up to rdi onto the console ring
  flush:
    mov byte [rdi], 13
    mov byte [rdi+1], 10
    add rdi, 2
    mov rdx, rdi
    lea rsi, [r14+OUTBUF]
  ; rsi up to rdx onto the console ring
  print:
    mov rdi, [r14+V_CONSOLE]
  putc:
    cmp rsi, rdx
    jae flushed
    mov eax, [rdi+3084]
    mov ecx, eax
    sub ecx, [rdi+3080]
    cmp ecx, 2048
    jae full
    mov ecx, eax
    and ecx, 2047
    mov r8b, [rsi]
    mov [rdi+rcx+1024], r8b
    inc eax
    mov [rdi+3084], eax
    inc rsi
    jmp putc
  full:
    push rsi
    push rdx
    mov eax, [r14+V_CONSPORT]
    call send
    xor edi, edi
    xor esi, esi
    mov eax, 29
    syscall
    pop rdx
    pop rsi
    mov rdi, [r14+V_CONSOLE]
    jmp putc
  flushed:
    mov eax, [r14+V_CONSPORT]
    jmp send

  align 16
  ; trap_info: vector, flags, cs, address
  traps:
  ${[0, 1, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19].map((v) => `db ${v}, 0\n dw 0xe033\n dd 0\n dq onfault`).join('\n  ')}
  dq 0, 0
  leaves: dd ${LEAVES.join(', ')}, -1
  xenleaves: dd ${XEN_LEAVES.join(', ')}, -1
  versions: db 0, 1, 2, 3, 4, 5, 6, 7, 8, -1
  memories: db 2, 3, 4, 12, -1
  w_interval: ascii "interval_ms="
  w_samples: ascii "samples="
  ${strings('s_fault', ['OBS FAULT '])}
  ${strings('store', STORE)}
  ${MESSAGES}
`;

const align4 = (n: number): number => (n + 3) & ~3;

/** One ELF note with owner "Xen". Its value is a text or an 8-byte number. */
function note(type: number, value: string | bigint): Uint8Array {
  const desc =
    typeof value === 'string'
      ? new TextEncoder().encode(`${value}\0`)
      : new Uint8Array(new BigUint64Array([value]).buffer);
  const out = new Uint8Array(12 + 4 + align4(desc.length));
  const view = new DataView(out.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, desc.length, true);
  view.setUint32(8, type, true);
  out.set([0x58, 0x65, 0x6e, 0], 12);
  out.set(desc, 16);
  return out;
}

/** The kernel as an ELF file with Xen's notes, as the domain builder needs it. */
export function smallKernelElf(): Uint8Array {
  const start = VIRT_BASE + LOAD;
  const { bytes, labels } = assemble(SOURCE, start, { bss: start + BSS_OFFSET, V_DEPTH: 736 });
  if (BigInt(bytes.length) > BSS_OFFSET) throw new RangeError('the small kernel has outgrown its code area');
  const notes = [
    note(6, 'stillpoint-small'), // XEN_ELFNOTE_GUEST_OS
    note(7, '1'), // XEN_ELFNOTE_GUEST_VERSION
    note(8, 'generic'), // XEN_ELFNOTE_LOADER
    note(5, 'xen-3.0'), // XEN_ELFNOTE_XEN_VERSION
    note(3, VIRT_BASE), // XEN_ELFNOTE_VIRT_BASE
    note(4, 0n), // XEN_ELFNOTE_PADDR_OFFSET
    note(1, labels.get('entry') as bigint), // XEN_ELFNOTE_ENTRY
  ];
  const notesAt = 64 + 2 * 56;
  const notesLength = notes.reduce((sum, n) => sum + n.length, 0);
  const codeAt = 0x1000;
  const file = new Uint8Array(codeAt + bytes.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, labels.get('entry') as bigint, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 2, true);
  const header = (
    at: number,
    type: number,
    offset: number,
    address: bigint,
    size: number,
    memory: bigint,
  ): void => {
    view.setUint32(at, type, true);
    view.setUint32(at + 4, 7, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, address === 0n ? 0n : VIRT_BASE + address, true);
    view.setBigUint64(at + 24, address, true);
    view.setBigUint64(at + 32, BigInt(size), true);
    view.setBigUint64(at + 40, memory, true);
    view.setBigUint64(at + 48, type === 1 ? 0x1000n : 4n, true);
  };
  header(64, 1, codeAt, LOAD, bytes.length, BSS_OFFSET + BSS_BYTES);
  header(120, 4, notesAt, 0n, notesLength, BigInt(notesLength));
  let at = notesAt;
  for (const n of notes) {
    file.set(n, at);
    at += n.length;
  }
  file.set(bytes, codeAt);
  return file;
}
