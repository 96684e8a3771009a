/**
 * What the machine executes but the random comparison with the processor leaves out, with the reason. coverage.test.ts
 * checks what each of them does here; everything else that the machine executes must come up in the comparison.
 */

export interface LeftOut {
  /** Patterns for iced's Code names. */
  readonly names: RegExp;
  readonly why: string;
}

export const LEFT_OUT: readonly LeftOut[] = [
  { names: /^(Syscall|Sysenter|Int_imm8)$/, why: 'natively they enter the kernel of the host' },
  { names: /^Int1$/, why: 'some hypervisors that tests run under leave rip on it, against the manuals' },
  { names: /^(Cpuid|Rdtsc)$/, why: 'the answers are our own' },
  {
    names:
      /^(Iret|Retf|Call_m16|Jmp_m16|Mov_Sreg|Pop[wq]_[FG]S|L[sfg]s_|Lar_|Lsl_|Verr_|Verw_|Sgdt|Sidt|Sldt|Str_|Smsw)/,
    why: "they read descriptor tables, which are the host's, or show them",
  },
  { names: /^(Sysret|Sysexit|Swapgs|Rdmsr|Wrmsr|Rdpmc)/, why: 'refused at CPL 3 or not, as the host likes' },
  {
    names: /^([TL]zcnt)_/,
    why: 'bsf and bsr here; on processors that offer them they are what they are called',
  },
  {
    names: /^(Wbnoinvd|Prefetchwt1|Prefetchit|Cldemote|Rdssp|Endbr)/,
    why: 'hints and idle prefixes here, as on processors before them; later ones do something',
  },
  { names: /^Bswap_r16$/, why: 'its result is undefined' },
  {
    names: /^(Fneni|Fndisi|Fnsetpm)$/,
    why: 'of the 8087 and 80287: ignored or refused, as the processor likes',
  },
];

export const whyLeftOut = (name: string): string | undefined => LEFT_OUT.find((l) => l.names.test(name))?.why;
