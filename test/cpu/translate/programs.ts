/**
 * Random programs to compare the tiers: loops with calls, branches, memory accesses near the end of a page, and stores
 * into their own code. Invariant: a program depends on its seed alone.
 */
const REGISTERS: Record<number, readonly string[]> = {
  8: ['al', 'dl', 'sil', 'dil', 'bpl', 'r8b', 'r9b', 'ah', 'dh', 'ch'],
  16: ['ax', 'dx', 'si', 'di', 'bp', 'r8w', 'r9w', 'cx'],
  32: ['eax', 'edx', 'esi', 'edi', 'ebp', 'r8d', 'r9d', 'ecx'],
  64: ['rax', 'rdx', 'rsi', 'rdi', 'rbp', 'r8', 'r9', 'rcx'],
};
const SIZES: Record<number, string> = { 8: 'byte', 16: 'word', 32: 'dword', 64: 'qword' };
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const VECTORS = [
  'movdqu xmm{x}, [{m}]',
  'movdqu [{m}], xmm{x}',
  'movdqa xmm{x}, xmm{y}',
  'paddd xmm{x}, xmm{y}',
  'paddb xmm{x}, xmm{y}',
  'psubw xmm{x}, xmm{y}',
  'pxor xmm{x}, xmm{y}',
  'pandn xmm{x}, xmm{y}',
  'pcmpeqb xmm{x}, xmm{y}',
  'punpcklbw xmm{x}, xmm{y}',
  'punpckhdq xmm{x}, xmm{y}',
  'packuswb xmm{x}, xmm{y}',
  'pmaddwd xmm{x}, xmm{y}',
  'pmuludq xmm{x}, xmm{y}',
  'psadbw xmm{x}, xmm{y}',
  'pshufd xmm{x}, xmm{y}, {i}',
  'pshuflw xmm{x}, xmm{y}, {i}',
  'pshufhw xmm{x}, xmm{y}, {i}',
  'shufps xmm{x}, xmm{y}, {i}',
  'shufpd xmm{x}, xmm{y}, {i}',
  'pslldq xmm{x}, {i}',
  'psrldq xmm{x}, {i}',
  'psllw xmm{x}, {i}',
  'psrad xmm{x}, {i}',
  'psrlq xmm{x}, {i}',
  'pmovmskb eax, xmm{x}',
  'movq xmm{x}, rdx',
  'movd xmm{x}, esi',
  'movq rdx, xmm{x}',
  'movsd xmm{x}, qword [{m}]',
  'movsd qword [{m}], xmm{x}',
  'movhps xmm{x}, qword [{m}]',
  'cvtsi2sd xmm{x}, eax',
  'cvttsd2si edx, xmm{x}',
  'addsd xmm{x}, xmm{y}',
  'mulsd xmm{x}, xmm{y}',
  'divsd xmm{x}, xmm{y}',
  'ucomisd xmm{x}, xmm{y}',
];

export class Random {
  private state: number;
  constructor(seed: number) {
    this.state = (Math.imul(seed + 1, 0x9e37_79b1) ^ 0x5bd1_e995) >>> 0 || 1;
  }
  /** A number from 0 to n - 1. */
  below(n: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % n;
  }
  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)];
  }
}

/** rbx points to data; r10 to r15 are loop counters. Nothing else changes these registers. */
export const COUNTERS = ['r12', 'r13', 'r14'];

class Writer {
  readonly lines: string[] = [];
  private labels = 0;

  constructor(
    private readonly r: Random,
    private readonly functions: number,
  ) {}

  private memory(indexed = true): string {
    // Most addresses are in the page; some cross its end, where nothing is mapped.
    const at = this.r.below(60) === 0 ? 4096 - this.r.below(12) : this.r.below(500) * 8 + this.r.below(4);
    return indexed && this.r.below(3) === 0
      ? `rbx+r11*${this.r.pick([1, 2, 4, 8])}+${at % 4000}`
      : `rbx+${at}`;
  }

  private integer(): string {
    const { r } = this;
    const bits = r.pick([8, 16, 32, 32, 32, 64, 64, 64]);
    // ah to bh cannot be used together with registers that need a REX prefix.
    const all = REGISTERS[bits];
    const legacy = bits === 8 && r.below(2) === 0;
    const names = bits === 8 ? (legacy ? ['al', 'dl', 'ah', 'dh', 'ch'] : all.slice(0, 7)) : all;
    const a = r.pick(names);
    const b = r.pick(names);
    const m = this.memory(!legacy);
    const size = SIZES[bits];
    const value = r.pick([0, 1, -1, 2, 3, 127, -128, r.below(100)]);
    const op = r.pick(['add', 'sub', 'adc', 'sbb', 'and', 'or', 'xor', 'cmp', 'test', 'mov']);
    const wide = bits === 8 ? 32 : bits;
    const c = r.pick(REGISTERS[wide]);
    const d = r.pick(REGISTERS[wide]);
    switch (r.below(26)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return `${op} ${a}, ${b}`;
      case 4:
      case 5:
        return `${op} ${a}, ${value}`;
      case 6:
        return `${op === 'test' ? 'cmp' : op} ${a}, [${m}]`;
      case 7:
        return `${op} [${m}], ${a}`;
      case 8:
        return `${op} ${size} [${m}], ${value}`;
      case 9:
        return `${r.pick(['inc', 'dec', 'neg', 'not'])} ${a}`;
      case 10:
        return `${r.pick(['inc', 'dec', 'neg', 'not'])} ${size} [${m}]`;
      case 11:
        return `${r.pick(['shl', 'shr', 'sar', 'rol', 'ror', 'rcl', 'rcr'])} ${a}, ${r.below(bits + 2)}`;
      case 12:
        return `${r.pick(['shl', 'shr', 'sar', 'rol', 'ror'])} ${a}, cl`;
      case 13:
        return `${r.pick(['shl', 'shr', 'sar', 'rol'])} ${size} [${m}], ${r.below(bits)}`;
      case 14:
        return `imul ${c}, ${d}`;
      case 15:
        return `imul ${c}, ${d}, ${value}`;
      case 16:
        return `${r.pick(['mul', 'imul', 'div', 'idiv'])} ${a}`;
      case 17:
        return `set${r.pick(CONDITIONS)} ${r.pick(['al', 'dl', 'ah', 'dh'])}`;
      case 18:
        return `cmov${r.pick(CONDITIONS)} ${c}, ${d}`;
      case 19:
        return `${r.pick(['bt', 'bts', 'btr', 'btc'])} ${c}, ${r.below(2) === 0 ? d : r.below(wide)}`;
      case 20:
        return `${r.pick(['bsf', 'bsr'])} ${c}, ${d}`;
      case 21:
        return `${r.pick(['xchg', 'xadd', 'cmpxchg'])} ${r.below(2) === 0 ? `[${m}]` : a}, ${b}`;
      case 22:
        return r.pick([
          `bswap ${r.pick(REGISTERS[32])}`,
          `bswap ${r.pick(REGISTERS[64])}`,
          'cdq',
          'cqo',
          'cwde',
          'cdqe',
        ]);
      case 23:
        return r.pick([
          `movzx ${r.pick(REGISTERS[32])}, ${r.pick(['al', 'dl', 'r8b'])}`,
          `movzx eax, word [${m}]`,
          `movsx rdx, byte [${m}]`,
          `movsxd rsi, dword [${m}]`,
          `movsx edi, ${r.pick(['ax', 'dx'])}`,
        ]);
      case 24:
        return r.pick([
          `lea ${c}, [${m}]`,
          `lea rsi, [rax+rdx*4-${r.below(99)}]`,
          'stc',
          'clc',
          'cmc',
          'push rax\npop rdx',
          'push rsi\npop r8',
          `mov ecx, ${r.below(70)}`,
          `mov rbp, 0x${r.below(2 ** 31).toString(16)}9abcdef0`,
          'lahf',
          'pushfq\npop rax',
        ]);
      default:
        return r
          .pick(VECTORS)
          .replace('{x}', `${r.below(8)}`)
          .replace('{y}', `${r.below(8)}`)
          .replace('{i}', `${r.below(256)}`)
          .replace('{m}', m);
    }
  }

  some(n: number): void {
    for (let i = 0; i < n; i++) this.lines.push(...this.integer().split('\n'));
  }

  private branch(): void {
    const label = `l${this.labels++}`;
    this.lines.push(`j${this.r.pick(CONDITIONS)} ${label}`);
    this.some(1 + this.r.below(4));
    this.lines.push(`${label}: nop`);
  }

  body(depth: number): void {
    const { r } = this;
    for (let i = 0; i < 3; i++) {
      this.some(1 + r.below(6));
      switch (r.below(5)) {
        case 0:
        case 1:
          this.branch();
          break;
        case 2:
          if (depth < 2) this.loop(depth + 1, 2 + r.below(5));
          break;
        case 3:
          if (this.functions > 0) {
            const f = r.below(this.functions);
            if (r.below(2) === 0) this.lines.push(`call f${f}`);
            else this.lines.push(`lea r10, [f${f}]`, 'call r10');
          }
          break;
        default:
          // This store changes the operand of an instruction in a loop, so the loop's code changes.
          if (this.functions > 0 && r.below(8) === 0)
            this.lines.push(`lea r10, [patch${r.below(this.functions)}]`, 'mov byte [r10+1], r14b');
      }
    }
  }

  loop(depth: number, times: number): void {
    const counter = COUNTERS[depth];
    const label = `l${this.labels++}`;
    this.lines.push(`mov ${counter}, ${times}`, `${label}: mov r11d, ${this.r.below(4)}`);
    this.body(depth);
    this.lines.push(`dec ${counter}`, `jnz ${label}`);
  }
}

/** Returns the source of a program; it ends with int3. */
export function makeProgram(seed: number, times: number): string {
  const r = new Random(seed);
  const functions = 3;
  const main = new Writer(r, functions);
  main.loop(0, times);
  main.lines.push('int3');
  for (let f = 0; f < functions; f++) {
    const w = new Writer(r, 0);
    w.some(2 + r.below(8));
    main.lines.push(`f${f}: nop`, ...w.lines, `patch${f}: mov al, ${f}`, 'ret');
  }
  return main.lines.join('\n');
}
