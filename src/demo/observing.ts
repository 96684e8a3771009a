/**
 * The assembly text that our two observers share: the program for Linux (observer.ts) and the kernel of our own
 * (small-kernel.ts). Both take a first view of everything they can see, compare each later one with it, do one step
 * of a computation in each sample, and print the same lines. r14 points to the variables all the time.
 */

const MULTIPLIER = 6364136223846793005n;
const STEPS = 1000n;

/** The result that the observer's computation must have after `samples` samples. */
export function chainAfter(samples: number): bigint {
  let h = 1n;
  for (let i = 0; i < samples; i++) {
    for (let step = 0n; step < STEPS; step++) h = BigInt.asUintN(64, h * MULTIPLIER + step);
  }
  return h;
}

export const strings = (label: string, list: readonly string[]): string =>
  `${label}: ${list.map((s) => `ascii ${JSON.stringify(s)}\ndb 0`).join('\n')}\ndb 0`;

/** Offsets of variables and buffers from r14. */
export const VARIABLES = `
  ; variables, relative to r14 = BSS
  V_INTERVAL = 0
  V_SAMPLES = 8
  V_N = 16
  V_CPUS = 24
  V_CPU = 32
  V_MONO = 40
  V_REAL = 48
  V_TSC = 56
  V_LAST = 64
  V_GAP = 72
  V_BACK = 80
  V_DIFF = 88
  V_CHAIN = 96
  V_XSFD = 104
  V_LEN0 = 112
  V_PATHLEN = 120
  V_NEXT = 128
  V_TS = 256
  V_MASK = 512
  PATHBUF = 0x1000
  OUTBUF = 0x3000
  XSBUF = 0x4000
  FILEBUF = 0x10000
  VIEW0 = 0x40000
  VIEW1 = 0x80000
  VIEWMAX = 0x38000
`;

/**
 * One step of the computation. Then `view` takes a new view, which is compared with the first one. Execution
 * continues after this text.
 */
export const STEP_AND_COMPARE = `
    ; the computation
    mov rax, [r14+V_CHAIN]
    mov rdx, ${MULTIPLIER}
    xor ecx, ecx
  chain:
    imul rax, rdx
    add rax, rcx
    inc rcx
    cmp rcx, ${STEPS}
    jb chain
    mov [r14+V_CHAIN], rax
    ; everything else, compared with the first time
    lea r15, [r14+VIEW1]
    call view
    lea rax, [r14+VIEW1]
    mov rcx, r15
    sub rcx, rax
    cmp rcx, [r14+V_LEN0]
    jbe lenok
    mov rcx, [r14+V_LEN0]
  lenok:
    mov rdx, rcx
    lea rsi, [r14+VIEW0]
    lea rdi, [r14+VIEW1]
    cmp rcx, rcx
    repe cmpsb
    jne differs
    lea rax, [r14+VIEW1]
    mov rcx, r15
    sub rcx, rax
    cmp rcx, [r14+V_LEN0]
    je same
    inc rdi
    inc rsi
  differs:
    inc qword [r14+V_DIFF]
    cmp qword [r14+V_DIFF], 20
    ja same
    lea rbx, [rdi-1]
    lea rbp, [rsi-1]
    lea rdi, [r14+OUTBUF]
    lea rsi, [s_diff]
    call puts
    lea rax, [r14+VIEW0]
    neg rax
    add rax, rbp
    call putdec
    lea rsi, [s_was]
    call puts
    mov rsi, rbp
    call excerpt
    lea rsi, [s_now]
    call puts
    mov rsi, rbx
    call excerpt
    call flush
`;

/** Reads all clocks with `clocks`, counts those that ran backwards, and keeps the longest gap. */
export const SAMPLE_CLOCKS = `
    mov rbp, [r14+V_MONO]
    mov r12, [r14+V_REAL]
    mov r13, [r14+V_TSC]
    call clocks
    cmp [r14+V_MONO], rbp
    jge ok1
    inc qword [r14+V_BACK]
  ok1:
    cmp [r14+V_REAL], r12
    jge ok2
    inc qword [r14+V_BACK]
  ok2:
    cmp [r14+V_TSC], r13
    jge ok3
    inc qword [r14+V_BACK]
  ok3:
    mov rax, [r14+V_MONO]
    sub rax, [r14+V_LAST]
    sub rax, [r14+V_INTERVAL]
    cmp rax, [r14+V_GAP]
    jle ok4
    mov [r14+V_GAP], rax
  ok4:
    mov rax, [r14+V_MONO]
    mov [r14+V_LAST], rax
`;

/** Counts the sample and reports every fiftieth one. Execution continues at `quiet`. */
export const EVERY_FIFTY = `
  same:
    inc qword [r14+V_N]
    mov rax, [r14+V_N]
    xor edx, edx
    mov ecx, 50
    div rcx
    test edx, edx
    jnz quiet
    lea rsi, [s_obs]
    call report
`;

/** Ends the line in OUTBUF, whose end is at rdi, and writes it to the standard output. */
export const FLUSH = `
  flush:
    mov byte [rdi], 10
    inc rdi
    mov rdx, rdi
    lea rsi, [r14+OUTBUF]
    sub rdx, rsi
    mov eax, 1
    mov edi, 1
    syscall
    ret
`;

/** Prints a round and how much was bad, with the text at rsi before the one and s_bad before the other. */
export const TELL_ROUND = `
  tell:
    lea rdi, [r14+OUTBUF]
    call puts
    mov rax, [r14+V_ROUND]
    call putdec
    lea rsi, [s_bad]
    call puts
    mov rax, [r14+V_BAD]
    call putdec
  ${FLUSH}
`;

/** Parses the decimal number at rsi into rax. */
export const DECIMAL = `
  decimal:
    xor eax, eax
  digit:
    movzx ecx, byte [rsi]
    sub ecx, 48
    cmp ecx, 9
    ja digits
    imul rax, rax, 10
    add rax, rcx
    inc rsi
    jmp digit
  digits:
    ret
`;

/** Writes the four registers of CPUID as a line at r15. */
export const LEAF_OUT = `
  leafout:
    push rdx
    push rcx
    push rbx
    mov rdi, r15
    call puthex
    pop rax
    call puthex
    pop rax
    call puthex
    pop rax
    call puthex
    mov byte [rdi], 10
    lea r15, [rdi+1]
    ret
`;

/** Routines that append text and decimal numbers at rdi. */
export const NUMBERS_AND_TEXT = `
  ; rsi = zero-ended text -> appended at rdi; rsi ends on its zero
  puts:
    cmp byte [rsi], 0
    je putsend
    movsb
    jmp puts
  putsend:
    ret
  putdec:
    push rbx
    mov rbx, rsp
    mov ecx, 10
  divide:
    xor edx, edx
    div rcx
    add edx, 48
    dec rsp
    mov [rsp], dl
    test rax, rax
    jnz divide
  copydigit:
    mov al, [rsp]
    mov [rdi], al
    inc rdi
    inc rsp
    cmp rsp, rbx
    jne copydigit
    pop rbx
    ret
`;

/** Text routines and the report. The user of this text must add `flush`, which prints OUTBUF up to rdi. */
export const REPORTING = `
  ; rsi = label text of the line
  report:
    lea rdi, [r14+OUTBUF]
    call puts
    mov rax, [r14+V_N]
    call putdec
    lea rsi, [s_cpus]
    call puts
    mov rax, [r14+V_CPUS]
    call putdec
    lea rsi, [s_mono]
    call puts
    mov rax, [r14+V_MONO]
    call putdec
    lea rsi, [s_real]
    call puts
    mov rax, [r14+V_REAL]
    call putdec
    lea rsi, [s_tsc]
    call puts
    mov rax, [r14+V_TSC]
    call putdec
    lea rsi, [s_gap]
    call puts
    mov rax, [r14+V_GAP]
    call putdec
    lea rsi, [s_back]
    call puts
    mov rax, [r14+V_BACK]
    call putdec
    lea rsi, [s_diffs]
    call puts
    mov rax, [r14+V_DIFF]
    call putdec
    lea rsi, [s_chain]
    call puts
    mov rax, [r14+V_CHAIN]
    call puthex
    jmp flush

  ${NUMBERS_AND_TEXT}
  puthex:
    mov ecx, 16
  nibble:
    rol rax, 4
    mov edx, eax
    and edx, 15
    add edx, 48
    cmp edx, 57
    jbe nibbleok
    add edx, 39
  nibbleok:
    mov [rdi], dl
    inc rdi
    dec ecx
    jnz nibble
    ret
  ; up to 48 printable bytes around rsi, from the start of its line
  excerpt:
    mov ecx, 48
  back:
    cmp byte [rsi-1], 10
    je atline
    dec rsi
    dec ecx
    jnz back
  atline:
    mov ecx, 96
  oneof:
    mov al, [rsi]
    cmp al, 32
    jb excerpted
    mov [rdi], al
    inc rdi
    inc rsi
    dec ecx
    jnz oneof
  excerpted:
    ret
`;

/** The texts of the output lines. */
export const MESSAGES = `
  ${Object.entries({
    s_start: 'OBS START view=',
    s_obs: 'OBS n=',
    s_verdict: 'OBS VERDICT n=',
    s_cpus: ' cpus=',
    s_mono: ' mono=',
    s_real: ' real=',
    s_tsc: ' tsc=',
    s_gap: ' gap=',
    s_back: ' back=',
    s_diffs: ' diff=',
    s_chain: ' chain=',
    s_diff: 'OBS DIFF at=',
    s_was: ' was=',
    s_now: ' now=',
  })
    .map(([label, s]) => strings(label, [s]))
    .join('\n  ')}
`;
