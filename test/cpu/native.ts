/**
 * The real processor: runs batches of machine code in this process, including faults, and returns all registers. The
 * loop, the signal handler and the way out of a fault are machine code of our own: the handler records what happened,
 * points rip at the exit stub and returns to the kernel, which restores every register as it was at the fault; the stub
 * then stores them with rip-relative moves, which need no free register.
 *
 * Invariant: outside `run` the process has its own signal handlers, signal mask and segment bases. Inside, all signals
 * but the five of faults are blocked, since a handler of the process would find our registers.
 * Sources: Linux x86-64 sigaction, ucontext and sigcontext layouts; SDM volume 1, section 10.5 (FXSAVE).
 */
import koffi from 'koffi';
import { assemble } from '../../src/asm/assembler.js';
import {
  BLOCK,
  CODE,
  CODE_BYTES,
  DATA,
  DATA_BYTES,
  FS_BASE,
  GS_BASE,
  RESULT_BYTES,
  TRAMPOLINE,
  TRAMPOLINE_BYTES,
  WRITABLE_BYTES,
} from './layout.js';

const NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');
const WHOLE = NAMES.filter((n) => n !== 'rbx' && n !== 'rsp');

const SOURCE = `
entry:  push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        stmxcsr [host_mxcsr]
        fnstcw [host_fcw]
        mov [host_rsp], rsp
        mov eax, 14                     ; rt_sigprocmask(SIG_SETMASK, all but our five)
        mov edi, 2
        lea rsi, [mask]
        lea rdx, [host_mask]
        mov r10, 8
        syscall
        mov eax, 131                    ; sigaltstack
        lea rdi, [our_stack]
        lea rsi, [host_stack]
        syscall
        lea rbx, [signals]
        lea rbp, [host_actions]
catch:  mov eax, 13                     ; rt_sigaction
        mov rdi, [rbx]
        lea rsi, [action]
        mov rdx, rbp
        mov r10, 8
        syscall
        add rbx, 8
        add rbp, 32
        cmp qword [rbx], 0
        jne catch
        mov eax, 158                    ; arch_prctl: remember both bases, set ours
        mov edi, 0x1003
        lea rsi, [host_fs]
        syscall
        mov eax, 158
        mov edi, 0x1004
        lea rsi, [host_gs]
        syscall
        mov eax, 158
        mov edi, 0x1002
        mov rsi, FS_BASE
        syscall
        mov eax, 158
        mov edi, 0x1001
        mov rsi, GS_BASE
        syscall

next:   mov rax, [count]
        test rax, rax
        je done
        dec rax
        mov [count], rax
        mov rsi, [window]
        mov rdi, DATA
        mov ecx, WRITABLE_BYTES
        rep movsb
        mov rbx, [input]
        fxrstor64 [rbx+FXSAVE]
        mov rcx, [rbx+ENTRY]
        mov [target], rcx
        movzx eax, word [rbx+SELECTORS]
        test eax, eax
        je long
        mov [target+4], eax
        movzx eax, word [rbx+SELECTORS+2]
        db 0x8e, 0xc0                   ; mov es, eax
        movzx eax, word [rbx+SELECTORS+6]
        db 0x8e, 0xd8                   ; mov ds, eax
        movzx eax, word [rbx+SELECTORS+8]
        db 0x8e, 0xe0                   ; mov fs, eax
        movzx eax, word [rbx+SELECTORS+10]
        db 0x8e, 0xe8                   ; mov gs, eax
        movzx eax, word [rbx+SELECTORS+4]
        mov rsp, STACK_TOP
        db 0x8e, 0xd0                   ; mov ss, eax
        push qword [rbx+RFLAGS]
        popfq
        ${WHOLE.map((n) => `mov ${n}, [rbx+${8 * NAMES.indexOf(n)}]`).join('\n')}
        mov rsp, [rbx+${8 * NAMES.indexOf('rsp')}]
        mov rbx, [rbx+${8 * NAMES.indexOf('rbx')}]
        db 0xff, 0x2c, 0x25             ; jmp far [target]
        dd target
long:   mov rsp, STACK_TOP
        push qword [rbx+RFLAGS]
        popfq
        ${WHOLE.map((n) => `mov ${n}, [rbx+${8 * NAMES.indexOf(n)}]`).join('\n')}
        mov rsp, [rbx+${8 * NAMES.indexOf('rsp')}]
        mov rbx, [rbx+${8 * NAMES.indexOf('rbx')}]
        jmp qword [target]

exit:   ${NAMES.map((n) => `mov [now+${8 * NAMES.indexOf(n)}], ${n}`).join('\n')}
        mov rsp, STACK_TOP
        mov eax, FLAT
        db 0x8e, 0xd0                   ; mov ss, eax
        pushfq
        pop qword [now+RFLAGS]
        push 0x202
        popfq
        fxsave64 [now+FXSAVE]
        fninit
        lea rsi, [now]
        mov rdi, [output]
        mov ecx, BLOCK_BYTES
        rep movsb
        mov rsi, DATA
        mov ecx, WRITABLE_BYTES
        rep movsb
        mov [output], rdi
        add qword [input], BLOCK_BYTES
        mov qword [now+SIGNAL], 0
        jmp next

done:   lea rbx, [signals]
        lea rbp, [host_actions]
restore: mov eax, 13
        mov rdi, [rbx]
        mov rsi, rbp
        xor edx, edx
        mov r10, 8
        syscall
        add rbx, 8
        add rbp, 32
        cmp qword [rbx], 0
        jne restore
        mov eax, 158
        mov edi, 0x1002
        mov rsi, [host_fs]
        syscall
        mov eax, 158
        mov edi, 0x1001
        mov rsi, [host_gs]
        syscall
        mov rsp, [host_rsp]
        ldmxcsr [host_mxcsr]
        fldcw [host_fcw]
        mov eax, 131
        lea rdi, [host_stack]
        xor esi, esi
        syscall
        mov eax, 14
        mov edi, 2
        lea rsi, [host_mask]
        xor edx, edx
        mov r10, 8
        syscall
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret

handler: mov [now+SIGNAL], rdi          ; rdx: ucontext; its general registers start at 40
        mov rax, [rdx+168]
        mov [now+ENTRY], rax
        mov rax, [rdx+192]
        mov [now+ERROR], rax
        mov rax, [rdx+200]
        mov [now+VECTOR], rax
        mov rax, [rdx+216]
        mov [now+ADDRESS], rax
        mov rax, [rdx+176]
        and eax, 0x10000
        mov [now+RESUME], rax
        lea rax, [exit]
        mov [rdx+168], rax
        mov word [rdx+184], CODE_64
        and qword [rdx+176], -257       ; no single steps in the stub
        ret
restorer: mov eax, 15
        syscall

        align 16
signals: dq 11, 7, 4, 8, 5, 0
mask:   dq -0x4d9                       ; all but SEGV, BUS, ILL, FPE, TRAP (bit n-1 for signal n)
host_mask: dq 0
action: dq handler, 0x4c000004, restorer, 0   ; SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER
our_stack: dq ALTERNATE, 0, 0x8000
host_stack: zero 24
host_actions: zero 160
host_fs: dq 0
host_gs: dq 0
host_rsp: dq 0
host_mxcsr: dd 0
host_fcw: dd 0
target: dq 0
count:  dq 0
input:  dq 0
output: dq 0
window: dq 0
        align 64
now:    zero BLOCK_BYTES
`;

/** Selectors that the operating system defines. */
const FLAT = 0x2b;
const CODE_64 = 0x33;
const SYS_modify_ldt = 154;
const WRITE_LDT = 0x11;

const PROT = { read: 1, write: 2, execute: 4 };
const MAP_FIXED_NOREPLACE = 0x10_0032; // with MAP_PRIVATE and MAP_ANONYMOUS

export interface Native {
  /** The code region, to be filled before `run`; every sequence ends with `end(address)`. */
  readonly code: Uint8Array;
  /** The data window as the processor sees it; its third page is filled once, before `protect`. */
  readonly data: Uint8Array;
  /** Returns the jump that ends a sequence, for the address at which it is placed. */
  end(address: number): Uint8Array;
  /** The same, to leave 32-bit or 16-bit code. */
  endCompat(bits: number): Uint8Array;
  /** Makes an entry of the local descriptor table. False: the operating system refuses. */
  setDescriptor(entry: number, base: number, limit: number, flags: number): boolean;
  /** Runs blocks of registers one after another, each on a fresh copy of `window`. Returns all results. */
  run(blocks: Uint8Array, window: Uint8Array): Uint8Array;
}

/** Maps everything, with `readOnly` as the content of the read-only page. Called once in a process. */
export function openNative(readOnly: Uint8Array): Native {
  const libc = koffi.load('libc.so.6');
  const mmap = libc.func('uint64_t mmap(uint64_t, size_t, int, int, int, int64_t)');
  const mprotect = libc.func('int mprotect(uint64_t, size_t, int)');
  const syscall = libc.func('long syscall(long, long, void *, long)');
  const map = (address: number, bytes: number, protection: number): Uint8Array => {
    const got = Number(mmap(address, bytes, protection, MAP_FIXED_NOREPLACE, -1, 0));
    if (got !== address)
      throw new Error(`mmap of ${bytes} bytes at ${address.toString(16)} gave ${got.toString(16)}`);
    return new Uint8Array(koffi.view(BigInt(address), bytes));
  };
  const all = PROT.read | PROT.write | PROT.execute;
  const trampoline = map(TRAMPOLINE, TRAMPOLINE_BYTES, all);
  const code = map(CODE, CODE_BYTES, all);
  const data = map(DATA, DATA_BYTES, PROT.read | PROT.write);
  data.set(readOnly, WRITABLE_BYTES);
  if (mprotect(DATA + WRITABLE_BYTES, DATA_BYTES - WRITABLE_BYTES, PROT.read) !== 0)
    throw new Error('mprotect of the read-only page failed');
  const program = assemble(SOURCE, BigInt(TRAMPOLINE), {
    FS_BASE,
    GS_BASE,
    DATA,
    WRITABLE_BYTES,
    FXSAVE: BLOCK.fxsave,
    RFLAGS: BLOCK.rflags,
    ENTRY: BLOCK.rip,
    SIGNAL: BLOCK.signal,
    VECTOR: BLOCK.vector,
    ERROR: BLOCK.error,
    ADDRESS: BLOCK.cr2,
    RESUME: BLOCK.resume,
    SELECTORS: BLOCK.selectors,
    FLAT,
    CODE_64,
    BLOCK_BYTES: BLOCK.bytes,
    STACK_TOP: TRAMPOLINE + 0x1_0000,
    ALTERNATE: TRAMPOLINE + 0x1_0000,
  });
  trampoline.set(program.bytes);
  const view = new DataView(trampoline.buffer);
  const at = (label: string): number => program.at(label) - TRAMPOLINE;
  const call = koffi.decode(BigInt(TRAMPOLINE), koffi.proto('void enter()'));
  const pointer = (bytes: Uint8Array): bigint => BigInt(koffi.address(bytes));
  return {
    code,
    data,
    end(address) {
      const jump = new Uint8Array(5);
      jump[0] = 0xe9;
      new DataView(jump.buffer).setInt32(1, program.at('exit') - (address + 5), true);
      return jump;
    },
    endCompat(bits) {
      const jump = new Uint8Array([...(bits === 16 ? [0x66] : []), 0xea, 0, 0, 0, 0, CODE_64, 0]);
      new DataView(jump.buffer).setUint32(jump.length - 6, program.at('exit'), true);
      return jump;
    },
    setDescriptor(entry, base, limit, flags) {
      const user = new Uint8Array(16);
      new Uint32Array(user.buffer).set([entry, base, limit, flags]);
      return Number(syscall(SYS_modify_ldt, WRITE_LDT, user, user.length)) === 0;
    },
    run(blocks, window) {
      const count = blocks.length / BLOCK.bytes;
      const results = new Uint8Array(count * RESULT_BYTES);
      const aligned = new Uint8Array(blocks.length + 16);
      const shift = Number(-pointer(aligned) & 15n);
      aligned.set(blocks, shift);
      view.setBigUint64(at('count'), BigInt(count), true);
      view.setBigUint64(at('input'), pointer(aligned) + BigInt(shift), true);
      view.setBigUint64(at('output'), pointer(results), true);
      view.setBigUint64(at('window'), pointer(window), true);
      call();
      return results;
    },
  };
}
