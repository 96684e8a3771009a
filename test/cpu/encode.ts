/**
 * Encodes one form with chosen operands, by the rules of the opcode map (SDM volume 2, chapter 2), deliberately in more
 * ways than an assembler would: long displacements, redundant SIB and REX bytes, prefixes without effect.
 */
import type { Form } from './forms.js';

export interface MemoryOperand {
  /** Register numbers; -1 means none. */
  readonly base: number;
  readonly index: number;
  readonly scale: 0 | 1 | 2 | 3;
  /** For `rip`: the absolute address that is addressed. */
  readonly displacement: number;
  readonly displacementBytes: 0 | 1 | 4;
  readonly rip: boolean;
}

export interface Instance {
  /** Legacy prefixes besides the form's own, in order. */
  readonly prefixes: readonly number[];
  /** Additional REX bits (0x40 for a bare prefix). */
  readonly rex: number;
  readonly reg: number;
  /** The register number of the rm operand; -1 for memory. */
  readonly rm: number;
  readonly opcodeRegister: number;
  readonly memory: MemoryOperand | undefined;
  /** Immediates, branch displacements and absolute addresses, as bytes, in order. */
  readonly immediates: readonly (readonly number[])[];
}

export interface Encoded {
  readonly bytes: number[];
  /** The offset of a 32-bit rip-relative displacement, and the address to which it leads. */
  readonly rip?: { readonly at: number; readonly target: number };
  /** The offset of a branch displacement. */
  readonly branch?: { readonly at: number; readonly size: number };
}

const le = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => (i < 4 ? (value >> (8 * i)) & 0xff : value < 0 ? 0xff : 0));

/** Returns the bytes of one instruction at `address`. */
export function encode(form: Form, x: Instance, address: number): Encoded {
  const out: number[] = [...x.prefixes];
  if (form.addressPrefix) out.push(0x67);
  if (form.prefix !== 0) out.push(form.prefix);
  const m = x.memory;
  const bank = (place: string): string => form.operands.find((o) => o.place === place)?.bank ?? '';
  const high = (place: string, n: number): number =>
    ['8', '16', '32', '64', 'xmm', 'cr', 'dr'].includes(bank(place)) ? n >> 3 : 0;
  let rex = x.rex | (form.wide ? 8 : 0);
  if (form.modrm) {
    if (form.group < 0) rex |= high('reg', x.reg) << 2;
    if (m === undefined) rex |= x.rm >= 0 ? high('rm', x.rm) : 0;
    else if (!m.rip) rex |= (m.base >= 8 ? 1 : 0) | (m.index >= 8 ? 2 : 0);
  }
  const opcodeRegister = form.operands.some((o) => o.place === 'opcode' || o.place === 'sti');
  if (opcodeRegister) rex |= high('opcode', x.opcodeRegister);
  if (rex !== 0) out.push(0x40 | rex);
  const opcode = [...form.opcode];
  if (opcodeRegister) opcode[opcode.length - 1] += x.opcodeRegister & 7;
  out.push(...opcode);
  let ripAt = -1;
  if (form.modrm) {
    const reg = (form.group >= 0 ? form.group : x.reg & 7) << 3;
    if (m === undefined) out.push(0xc0 | reg | (x.rm & 7));
    else if (m.rip) {
      out.push(reg | 5);
      ripAt = out.length;
      out.push(0, 0, 0, 0);
    } else {
      const needsSib = m.base < 0 || m.index >= 0 || (m.base & 7) === 4;
      let bytes: number = m.base < 0 ? 4 : m.displacementBytes;
      if (bytes === 0 && (m.base & 7) === 5) bytes = 1;
      const mod = m.base < 0 ? 0 : bytes === 0 ? 0 : bytes === 1 ? 0x40 : 0x80;
      out.push(mod | reg | (needsSib ? 4 : m.base & 7));
      if (needsSib)
        out.push((m.scale << 6) | ((m.index < 0 ? 4 : m.index & 7) << 3) | (m.base < 0 ? 5 : m.base & 7));
      out.push(...le(m.displacement, bytes));
    }
  }
  let branch: Encoded['branch'];
  const wide = form.operands.filter((o) => o.place === 'imm' || o.place === 'branch' || o.place === 'moffs');
  x.immediates.forEach((bytes, i) => {
    if (wide[i]?.place === 'branch') branch = { at: out.length, size: bytes.length };
    out.push(...bytes);
  });
  if (ripAt < 0) return { bytes: out, branch };
  const relative = le((m as MemoryOperand).displacement - (address + out.length), 4);
  for (let i = 0; i < 4; i++) out[ripAt + i] = relative[i];
  return { bytes: out, rip: { at: ripAt, target: (m as MemoryOperand).displacement }, branch };
}
