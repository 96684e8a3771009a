/**
 * Decodes integer instructions directly from their bytes, once iced-x86 has decoded one of the same form. The form
 * (operation, kinds of operands, flow) depends on the opcode, the operand size, the digit in ModRM for groups, and
 * whether ModRM names memory. iced-x86 decodes the first instruction of each form, and its result is used for the
 * others. Therefore this file contains no meanings of instructions, only where registers, addresses and immediates
 * are. Always left to iced-x86: floating point, vectors, lock and repeat prefixes, 32-bit addresses, and everything
 * rare. SDM vol. 2, 2.1 and 2.2.
 */
import { BLOCK_VA, FS_BASE, GS_BASE, ZERO } from '../core/layout.js';
import { type DecodedForm, Flow } from './forms.js';

/** What follows an opcode, and the roles of the operands. */
const MODRM = 1;
/** The middle field of ModRM is part of the opcode. */
const GROUP = 2;
/** The first operand is the register, and not the one that may be memory. */
const REGISTER_FIRST = 4;
const BYTE_REGISTER = 8;
const BYTE_RM = 0x10;
const IMMEDIATE_8 = 0x20;
/** 16 bits with an operand-size prefix, otherwise 32. */
const IMMEDIATE_Z = 0x40;
/** 64 bits with REX.W. */
const IMMEDIATE_V = 0x80;
/** The register is in the opcode's low bits. */
const OPCODE_REGISTER = 0x100;
/** The immediate is a count of bits. A count of 0 is left to iced-x86. */
const COUNT = 0x200;
/** Not known with an operand-size prefix. */
const NO_16 = 0x400;
const KNOWN = 0x800;

const OPERAND_SIZE = 0x66;
const TWO_BYTES = 0x0f;
const REX = 0x40;
const REX_W = 8;
const REX_R = 4;
const REX_X = 2;
const REX_B = 1;
const RIP_RELATIVE = 5;
const SIB = 4;
const BOTH = MODRM | BYTE_RM | BYTE_REGISTER;

/** By opcode. Two-byte opcodes begin at 256. */
function opcodeTable(): Uint16Array {
  const table = new Uint16Array(512);
  const set = (first: number, last: number, bits: number): void => {
    for (let i = first; i <= last; i++) table[i] = bits | KNOWN;
  };
  for (let arithmetic = 0; arithmetic < 0x40; arithmetic += 8) {
    set(arithmetic, arithmetic, BOTH);
    set(arithmetic + 1, arithmetic + 1, MODRM);
    set(arithmetic + 2, arithmetic + 2, BOTH | REGISTER_FIRST);
    set(arithmetic + 3, arithmetic + 3, MODRM | REGISTER_FIRST);
    set(arithmetic + 4, arithmetic + 4, IMMEDIATE_8);
    set(arithmetic + 5, arithmetic + 5, IMMEDIATE_Z);
  }
  set(0x50, 0x5f, OPCODE_REGISTER | NO_16);
  set(0x63, 0x63, MODRM | REGISTER_FIRST);
  set(0x68, 0x68, IMMEDIATE_Z | NO_16);
  set(0x69, 0x69, MODRM | REGISTER_FIRST | IMMEDIATE_Z);
  set(0x6a, 0x6a, IMMEDIATE_8 | NO_16);
  set(0x6b, 0x6b, MODRM | REGISTER_FIRST | IMMEDIATE_8);
  set(0x70, 0x7f, IMMEDIATE_8 | NO_16);
  set(0x80, 0x80, BOTH | GROUP | IMMEDIATE_8);
  set(0x81, 0x81, MODRM | GROUP | IMMEDIATE_Z);
  set(0x83, 0x83, MODRM | GROUP | IMMEDIATE_8);
  set(0x84, 0x84, BOTH);
  set(0x85, 0x85, MODRM);
  set(0x86, 0x86, BOTH);
  set(0x87, 0x87, MODRM);
  set(0x88, 0x88, BOTH);
  set(0x89, 0x89, MODRM);
  set(0x8a, 0x8a, BOTH | REGISTER_FIRST);
  set(0x8b, 0x8b, MODRM | REGISTER_FIRST);
  set(0x8d, 0x8d, MODRM | REGISTER_FIRST);
  set(0x98, 0x99, 0);
  set(0xa8, 0xa8, IMMEDIATE_8);
  set(0xa9, 0xa9, IMMEDIATE_Z);
  set(0xb0, 0xb7, OPCODE_REGISTER | BYTE_REGISTER | IMMEDIATE_8);
  set(0xb8, 0xbf, OPCODE_REGISTER | IMMEDIATE_V);
  set(0xc0, 0xc0, BOTH | GROUP | IMMEDIATE_8 | COUNT);
  set(0xc1, 0xc1, MODRM | GROUP | IMMEDIATE_8 | COUNT);
  set(0xc3, 0xc3, NO_16);
  set(0xc6, 0xc6, BOTH | GROUP | IMMEDIATE_8);
  set(0xc7, 0xc7, MODRM | GROUP | IMMEDIATE_Z);
  set(0xc9, 0xc9, NO_16);
  set(0xd0, 0xd0, BOTH | GROUP);
  set(0xd1, 0xd1, MODRM | GROUP);
  set(0xd2, 0xd2, BOTH | GROUP);
  set(0xd3, 0xd3, MODRM | GROUP);
  set(0xe8, 0xe9, IMMEDIATE_Z | NO_16);
  set(0xeb, 0xeb, IMMEDIATE_8 | NO_16);
  set(0xf6, 0xf6, BOTH | GROUP);
  set(0xf7, 0xf7, MODRM | GROUP);
  set(0xfe, 0xfe, BOTH | GROUP);
  set(0xff, 0xff, MODRM | GROUP | NO_16);
  const two = 0x100;
  set(two + 0x1f, two + 0x1f, MODRM | GROUP);
  set(two + 0x40, two + 0x4f, MODRM | REGISTER_FIRST);
  set(two + 0x80, two + 0x8f, IMMEDIATE_Z | NO_16);
  set(two + 0x90, two + 0x9f, BOTH | GROUP);
  for (const bitTest of [0xa3, 0xab, 0xb3, 0xbb]) set(two + bitTest, two + bitTest, MODRM);
  set(two + 0xaf, two + 0xaf, MODRM | REGISTER_FIRST);
  set(two + 0xb6, two + 0xb6, MODRM | REGISTER_FIRST | BYTE_RM);
  set(two + 0xb7, two + 0xb7, MODRM | REGISTER_FIRST);
  set(two + 0xba, two + 0xba, MODRM | GROUP | IMMEDIATE_8 | COUNT);
  set(two + 0xbc, two + 0xbd, MODRM | REGISTER_FIRST);
  set(two + 0xbe, two + 0xbe, MODRM | REGISTER_FIRST | BYTE_RM);
  set(two + 0xbf, two + 0xbf, MODRM | REGISTER_FIRST);
  set(two + 0xc8, two + 0xcf, OPCODE_REGISTER | NO_16);
  return table;
}
const OPCODES = opcodeTable();

/** Forms are numbered by opcode, digit of the group, operand size, and whether there is memory. */
const KEYS = 512 << 6;

/** The offset of a register operand in the vCPU's state. */
const wide = (n: number): number => 8 * n;
const byte = (n: number, rex: number): number => (rex === 0 && n >= 4 ? 8 * (n - 4) + 1 : 8 * n);

export class KnownForms {
  private readonly forms: (DecodedForm | undefined)[] = Array.from<undefined>({ length: KEYS });
  /** The key of the instruction that was examined last; -1: its form cannot be known. */
  private key = -1;
  /** How the block continues after the instruction, if it was decoded. */
  flow = Flow.next;
  /** The position up to which bytes have been read, and the last immediate. */
  private end = 0;
  private value = 0;

  constructor(
    private readonly u8: Uint8Array,
    private readonly view: DataView,
  ) {}

  /** To be called with the form that iced-x86 found for the instruction that was not known. */
  learn(form: DecodedForm | undefined): void {
    if (this.key < 0 || form === undefined) return;
    if ((OPCODES[this.key >> 6] & COUNT) === 0 || form.immValue !== 0) this.forms[this.key] = form;
  }

  /**
   * Decodes the instruction at the linear address `at` (15 bytes can be read), at `offset` in its block, to `slot`.
   * Returns its length, or 0 if it is not known.
   */
  decode(at: number, offset: number, slot: number): number {
    const { u8 } = this;
    this.key = -1;
    let next = at;
    let narrow = 0;
    let segment = ZERO;
    let first = u8[next++];
    if (first === 0x65 || first === 0x64) {
      segment = first === 0x65 ? GS_BASE : FS_BASE;
      first = u8[next++];
    }
    if (first === OPERAND_SIZE) {
      narrow = 1;
      first = u8[next++];
    }
    let rex = 0;
    if ((first & 0xf0) === REX) {
      rex = first;
      first = u8[next++];
    }
    const opcode = first === TWO_BYTES ? 0x100 + u8[next++] : first;
    let bits = OPCODES[opcode];
    if (bits === 0 || (narrow !== 0 && ((bits & NO_16) !== 0 || (rex & REX_W) !== 0))) return 0;
    let key = (opcode << 6) | ((rex & REX_W) >> 2) | narrow;
    let modrm = 0;
    let isMemory = false;
    if ((bits & MODRM) !== 0) {
      modrm = u8[next++];
      isMemory = modrm < 0xc0;
      key |= ((bits & GROUP) !== 0 ? modrm & 0x38 : 0) | (isMemory ? 4 : 0);
      // In group 3, the test instructions have an immediate.
      if ((opcode | 1) === 0xf7 && (modrm & 0x30) === 0) bits |= opcode === 0xf6 ? IMMEDIATE_8 : IMMEDIATE_Z;
    }
    this.key = key;
    const form = this.forms[key];
    if (form === undefined) return 0;
    this.end = next;
    this.registers(form, bits, opcode, modrm, rex, slot);
    u8[slot + 4] = ZERO;
    u8[slot + 5] = ZERO;
    u8[slot + 6] = ZERO;
    let { op } = form;
    let relative = false;
    if (isMemory) {
      relative = (modrm & 0xc7) === RIP_RELATIVE;
      this.address(modrm, rex, slot, form.special === 'offset' ? ZERO : segment);
      if (!form.memory) this.forget(slot);
      else if (u8[slot + 5] === ZERO && u8[slot + 6] === ZERO) op = form.simpleOp;
    } else this.view.setInt32(slot + 8, 0, true);
    this.view.setUint16(slot, op, true);
    if (!this.immediate(form, bits, opcode, narrow, rex, slot)) return 0;
    const length = this.end - at;
    u8[slot + 7] = length;
    if (relative && form.memory) this.add(slot + 8, offset + length);
    this.finish(form, offset + length, slot);
    return length;
  }

  private registers(
    form: DecodedForm,
    bits: number,
    opcode: number,
    modrm: number,
    rex: number,
    slot: number,
  ): void {
    let first = 0;
    let second = 0;
    if ((bits & OPCODE_REGISTER) !== 0) {
      const n = (opcode & 7) | ((rex & REX_B) << 3);
      first = (bits & BYTE_REGISTER) !== 0 ? byte(n, rex) : wide(n);
    } else if ((bits & MODRM) !== 0) {
      const n = ((modrm >> 3) & 7) | ((rex & REX_R) << 1);
      const m = (modrm & 7) | ((rex & REX_B) << 3);
      const register = (bits & BYTE_REGISTER) !== 0 ? byte(n, rex) : wide(n);
      const rm = (bits & BYTE_RM) !== 0 ? byte(m, rex) : wide(m);
      first = (bits & REGISTER_FIRST) !== 0 ? register : rm;
      second = (bits & REGISTER_FIRST) !== 0 ? rm : register;
    }
    this.u8[slot + 2] = form.r1 < 0 ? form.r1Value : form.r1 === 0 ? first : second;
    this.u8[slot + 3] = form.r2 < 0 ? form.r2Value : form.r2 === 0 ? first : second;
  }

  /**
   * Writes base, index, scale, segment and displacement. To a displacement relative to rip the end of the instruction
   * is added later.
   */
  private address(modrm: number, rex: number, slot: number, segment: number): void {
    const { u8, view } = this;
    const mod = modrm >> 6;
    let at = this.end;
    let displacement = mod === 1 ? 1 : mod === 2 ? 4 : 0;
    u8[slot + 6] = segment;
    if ((modrm & 7) === SIB) {
      const sib = u8[at++];
      const index = ((sib >> 3) & 7) | ((rex & REX_X) << 2);
      if (index !== SIB) u8[slot + 5] = wide(index);
      u8[slot + 6] = segment | (sib >> 6);
      if ((sib & 7) === 5 && mod === 0) displacement = 4;
      else u8[slot + 4] = wide((sib & 7) | ((rex & REX_B) << 3));
    } else if (mod === 0 && (modrm & 7) === RIP_RELATIVE) {
      u8[slot + 4] = BLOCK_VA;
      displacement = 4;
    } else u8[slot + 4] = wide((modrm & 7) | ((rex & REX_B) << 3));
    const value =
      displacement === 0 ? 0 : displacement === 1 ? (u8[at] << 24) >> 24 : view.getInt32(at, true);
    view.setInt32(slot + 8, value, true);
    this.end = at + displacement;
  }

  /** A memory operand that does not matter, of a hint. */
  private forget(slot: number): void {
    const { u8 } = this;
    u8[slot + 4] = ZERO;
    u8[slot + 5] = ZERO;
    u8[slot + 6] = ZERO;
    this.view.setInt32(slot + 8, 0, true);
  }

  private immediate(
    form: DecodedForm,
    bits: number,
    opcode: number,
    narrow: number,
    rex: number,
    slot: number,
  ): boolean {
    const { u8, view } = this;
    let value = 0;
    let at = this.end;
    if ((bits & IMMEDIATE_8) !== 0) value = (u8[at++] << 24) >> 24;
    else if ((bits & (IMMEDIATE_Z | IMMEDIATE_V)) !== 0) {
      value = narrow !== 0 ? view.getInt16(at, true) : view.getInt32(at, true);
      at += narrow !== 0 ? 2 : 4;
    }
    if ((bits & COUNT) !== 0) {
      const isByte = (bits & BYTE_RM) !== 0;
      value &= (rex & REX_W) !== 0 && !isByte ? 63 : narrow !== 0 && opcode >= 0x100 ? 15 : 31;
      if (value === 0) return false;
      view.setInt32(slot + 12, value, true);
    } else if (form.special === 'movabs') {
      const isWide = (rex & REX_W) !== 0;
      view.setInt32(slot + 8, value, true);
      view.setInt32(
        slot + 12,
        !isWide ? 0 : (bits & IMMEDIATE_V) !== 0 ? view.getInt32(at, true) : value >> 31,
        true,
      );
      if (isWide && (bits & IMMEDIATE_V) !== 0) at += 4;
    } else view.setInt32(slot + 12, form.imm < 0 ? form.immValue : value, true);
    this.value = value;
    this.end = at;
    return true;
  }

  private add(at: number, value: number): void {
    this.view.setInt32(at, (this.view.getInt32(at, true) + value) | 0, true);
  }

  /** Writes the target of a jump, relative to the block's start, and the address after a call. */
  private finish(form: DecodedForm, behind: number, slot: number): void {
    this.flow = form.flow;
    if (form.flow === Flow.branch || form.flow === Flow.either) {
      this.view.setInt32(slot + 8, (behind + this.value) | 0, true);
      if (form.flow === Flow.either) this.view.setInt32(slot + 12, behind, true);
    }
    if (form.special === 'call') this.view.setInt32(slot + 12, behind, true);
  }
}
