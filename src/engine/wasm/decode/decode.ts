/**
 * Decodes x86-64 instructions into operations, one basic block at a time. It uses iced-x86's decoder, and for forms
 * that iced-x86 has decoded before it uses known.ts. The operations are position independent (addresses relative to
 * rip refer to the block's start), so a block belongs to its physical page, whatever address the page is mapped at.
 * Layout: core/layout.ts; numbers: core/ops.ts.
 */
import * as iced from '../../../x86/iced.js';
import {
  B_BYTES,
  B_COUNT,
  B_FRAME2,
  BLOCK_HEADER,
  BLOCK_MAX,
  CS_BASE,
  DS_BASE,
  ES_BASE,
  FP_DESCRIPTORS,
  FP_NEXT,
  KIND_LONG,
  SCALE_ADDR32,
  SCALE_SLOT,
  SS_BASE,
  ZERO,
} from '../core/layout.js';
import { Form, G, Op } from '../core/ops.js';
import { compatForm, writesToCode } from './compat.js';
import { type DecodedForm, Flow, integerForm, isReusable } from './forms.js';
import { decodeFp, type FpOperation } from './fp.js';
import { KnownForms } from './known.js';
import { registerLog, registerOffset } from './registers.js';

const { Code, DecoderError, DecoderOptions, OpKind, Register } = iced;

const OPTIONS = DecoderOptions.NoMPFX_0FBC | DecoderOptions.NoMPFX_0FBD | DecoderOptions.NoWbnoinvd;
const MAX_LENGTH = 15;
/** How many bytes the decoder gets at a time. */
const WINDOW = 192;
const PAGE = 4096;
const BLOCK_VA_SLOT = 0x80;
const FS_SLOT = 0x90;
const GS_SLOT = 0x98;
const UD = 6;
const GP = 13;
const RAISE = Op.GENERIC | (G.RAISE << 5) | (Form.RI << 2);
const FLOAT = Op.GENERIC | (G.FP << 5) | (Form.RR << 2);

const SEGMENT_SLOTS = new Uint8Array(256).fill(ZERO);
SEGMENT_SLOTS[Register.FS] = FS_SLOT;
SEGMENT_SLOTS[Register.GS] = GS_SLOT;
/** In compatibility mode all segments have a base. */
const COMPAT_SLOTS = new Uint8Array(256).fill(ZERO);
COMPAT_SLOTS[Register.ES] = ES_BASE;
COMPAT_SLOTS[Register.CS] = CS_BASE;
COMPAT_SLOTS[Register.SS] = SS_BASE;
COMPAT_SLOTS[Register.DS] = DS_BASE;
COMPAT_SLOTS[Register.FS] = FS_SLOT;
COMPAT_SLOTS[Register.GS] = GS_SLOT;
const RDI = 0x38;
/** Indexed by KIND_. */
const BITS = [64, 32, 32, 16];
const SCALES = [0, 0, 1, 0, 2, 0, 0, 0, 3];

const moves: Record<number, readonly [store: boolean, aligned: boolean] | undefined> = {
  [Code.Movups_xmm_xmmm128]: [false, false],
  [Code.Movupd_xmm_xmmm128]: [false, false],
  [Code.Movdqu_xmm_xmmm128]: [false, false],
  [Code.Movaps_xmm_xmmm128]: [false, true],
  [Code.Movapd_xmm_xmmm128]: [false, true],
  [Code.Movdqa_xmm_xmmm128]: [false, true],
  [Code.Movups_xmmm128_xmm]: [true, false],
  [Code.Movupd_xmmm128_xmm]: [true, false],
  [Code.Movdqu_xmmm128_xmm]: [true, false],
  [Code.Movaps_xmmm128_xmm]: [true, true],
  [Code.Movapd_xmmm128_xmm]: [true, true],
  [Code.Movdqa_xmmm128_xmm]: [true, true],
  [Code.Movntps_m128_xmm]: [true, true],
  [Code.Movntpd_m128_xmm]: [true, true],
  [Code.Movntdq_m128_xmm]: [true, true],
};

/** The signed low 32 bits of an immediate operand of any width. */
function immediateOf(ins: iced.Instruction, operand: number): number {
  switch (ins.opKind(operand)) {
    case OpKind.Immediate8:
    case OpKind.Immediate8to16:
    case OpKind.Immediate8to32:
    case OpKind.Immediate8to64:
      return (ins.immediate8 << 24) >> 24;
    case OpKind.Immediate16:
      return (ins.immediate16 << 16) >> 16;
    default:
      return Number(BigInt.asIntN(32, ins.immediate(operand)));
  }
}

/** Outside of long mode FXSAVE does not write the area of xmm8 to xmm15 and what follows it. */
function withoutUpperVectors(fp: FpOperation): FpOperation {
  return fp.form.storeSize === 512 ? { ...fp, form: { ...fp.form, storeSize: 288 } } : fp;
}

export class BlockDecoder {
  private readonly instruction = new iced.Instruction();
  private readonly view: DataView;
  private readonly u8: Uint8Array;
  /** Indexed by KIND_. */
  private readonly forms = BITS.map(() => new Map<number, DecodedForm>());
  private readonly descriptors = new Map<string, number>();
  private readonly known: KnownForms | undefined;
  /** The decoder of the present block. It is made when it is first needed. */
  private decoder: iced.Decoder | undefined;
  /** The KIND_ of the present block. */
  private kind: number = KIND_LONG;
  /**
   * How a block continues after the instruction that was decoded last, and the form of that instruction if it is an
   * integer instruction.
   */
  private flow = Flow.next;
  private form: DecodedForm | undefined;

  /** With `knows`, instructions of forms that were seen before are decoded without iced-x86. */
  constructor(memory: ArrayBufferLike, knows = true) {
    this.view = new DataView(memory);
    this.u8 = new Uint8Array(memory);
    this.known = knows ? new KnownForms(this.u8, this.view) : undefined;
  }

  /**
   * Decodes the block at the linear address `at` to `to`, including the header fields B_COUNT, B_BYTES and B_FRAME2.
   * Returns the number of operations, or 0 if the instruction continues in the next page and `nextPage` returns no
   * linear address for it. `kind` is a KIND_.
   */
  decode(at: number, to: number, nextPage: () => number, kind: number = KIND_LONG): number {
    this.kind = kind;
    const room = Math.min(PAGE - (at & (PAGE - 1)), WINDOW);
    let offset = 0;
    let count = 0;
    let slot = to + BLOCK_HEADER;
    this.view.setUint32(to + B_FRAME2, 0, true);
    try {
      for (;;) {
        const length = this.instructionAt(at, room, offset, slot);
        if (length === 0) {
          if (count === 0) return this.decodeCrossing(at, to, room, nextPage);
          break;
        }
        offset += length;
        count++;
        slot += 16;
        const { flow } = this;
        if (flow !== Flow.next) {
          if (flow === Flow.branch || flow === Flow.either) slot = this.links(slot);
          return this.end(to, count, offset, slot);
        }
        if (count === BLOCK_MAX || offset === room) break;
      }
    } finally {
      this.decoder?.free();
      this.decoder = undefined;
    }
    return this.end(to, count, offset, this.next(slot, offset));
  }

  /**
   * Decodes the instruction at `offset` in the block at the linear address `at`, of which `room` bytes can be read.
   * Sets `flow` to how the block continues. Returns the instruction's length, or 0 if it does not end within these
   * bytes.
   */
  private instructionAt(at: number, room: number, offset: number, slot: number): number {
    const { instruction: ins, known } = this;
    if (this.kind === KIND_LONG && known !== undefined && offset + MAX_LENGTH <= room) {
      const length = known.decode(at + offset, offset, slot);
      if (length !== 0) {
        this.flow = known.flow;
        return length;
      }
    }
    this.decoder ??= new iced.Decoder(BITS[this.kind], this.u8.subarray(at, at + room), OPTIONS);
    const { decoder } = this;
    decoder.position = offset;
    decoder.ip = BigInt(offset);
    decoder.decodeOut(ins);
    if (ins.code === Code.INVALID && decoder.lastError === DecoderError.NoMoreBytes) {
      if (room - offset < MAX_LENGTH) return 0;
      this.flow = this.raise(slot, GP, MAX_LENGTH);
      return MAX_LENGTH;
    }
    this.flow = this.emit(ins, offset, slot);
    if (this.kind === KIND_LONG && offset + MAX_LENGTH <= room) known?.learn(this.form);
    return ins.length;
  }

  /** An instruction that crosses a page boundary is a block of its own. */
  private decodeCrossing(at: number, to: number, room: number, nextPage: () => number): number {
    const second = nextPage();
    if (second === 0) return 0;
    const bytes = new Uint8Array(MAX_LENGTH + 1);
    bytes.set(this.u8.subarray(at, at + room));
    bytes.set(this.u8.subarray(second, second + MAX_LENGTH + 1 - room), room);
    const decoder = new iced.Decoder(BITS[this.kind], bytes, OPTIONS);
    const ins = this.instruction;
    decoder.decodeOut(ins);
    const tooLong = ins.code === Code.INVALID && decoder.lastError === DecoderError.NoMoreBytes;
    decoder.free();
    let slot = to + BLOCK_HEADER;
    let length = ins.length;
    this.view.setUint32(to + B_FRAME2, second, true);
    if (tooLong) {
      length = MAX_LENGTH;
      this.raise(slot, GP, length);
      return this.end(to, 1, length, slot + 16);
    }
    const flow = this.emit(ins, 0, slot);
    slot += 16;
    if (flow === Flow.branch || flow === Flow.either) slot = this.links(slot);
    else if (flow === Flow.next) slot = this.next(slot, length);
    // An invalid instruction may end before the page does. In that case the second page is not needed, but does no
    // harm.
    return this.end(to, 1, Math.max(length, room + 1), slot);
  }

  private end(to: number, count: number, bytes: number, slot: number): number {
    this.view.setUint32(to + B_COUNT, count, true);
    this.view.setUint32(to + B_BYTES, bytes, true);
    return (slot - to - BLOCK_HEADER) >> 4;
  }

  private links(slot: number): number {
    this.u8.fill(0, slot, slot + 16);
    return slot + 16;
  }

  /** The block continues at the next instruction. */
  private next(slot: number, offset: number): number {
    this.put(slot, Op.NEXT, 0, 0, 0, offset, 0);
    return this.links(slot + 16);
  }

  private raise(slot: number, vector: number, length: number): Flow {
    this.put(slot, RAISE, 0, 0, length, 0, vector);
    return Flow.end;
  }

  private put(
    slot: number,
    op: number,
    r1: number,
    r2: number,
    length: number,
    disp: number,
    imm: number,
  ): void {
    const { u8, view } = this;
    view.setUint16(slot, op, true);
    u8[slot + 2] = r1;
    u8[slot + 3] = r2;
    u8[slot + 4] = ZERO;
    u8[slot + 5] = ZERO;
    u8[slot + 6] = ZERO;
    u8[slot + 7] = length;
    view.setInt32(slot + 8, disp, true);
    view.setInt32(slot + 12, imm, true);
  }

  private emit(ins: iced.Instruction, offset: number, slot: number): Flow {
    const { code } = ins;
    this.form = undefined;
    if (code === Code.INVALID) return this.raise(slot, UD, ins.length);
    const memory = ins.opCount > 0 && (ins.op0Kind === OpKind.Memory || ins.op1Kind === OpKind.Memory);
    const key = code * 2 + (memory ? 1 : 0);
    const forms = this.forms[this.kind];
    let form = forms.get(key);
    if (this.kind !== KIND_LONG && memory && ins.memorySegment === Register.CS && writesToCode(ins))
      return this.raise(slot, GP, ins.length);
    if (form === undefined) {
      form = (this.kind === KIND_LONG ? undefined : compatForm(ins, this.kind)) ?? integerForm(ins);
      if (form === undefined) return this.emitFloat(ins, slot);
      if (isReusable(ins)) forms.set(key, form);
    } else if (ins.hasLockPrefix && ins.op0Kind !== OpKind.Memory) return this.raise(slot, UD, ins.length);
    this.form = form;
    const { length } = ins;
    const r1 = form.r1 < 0 ? form.r1Value : registerOffset[ins.opRegister(form.r1)];
    const r2 = form.r2 < 0 ? form.r2Value : registerOffset[ins.opRegister(form.r2)];
    const imm = form.imm < 0 || form.special === 'movabs' ? form.immValue : immediateOf(ins, form.imm);
    this.put(slot, form.op, r1, r2, length, 0, imm);
    if (form.memory) {
      if (this.putAddress(ins, slot, form.special !== 'offset'))
        this.view.setUint16(slot, form.simpleOp, true);
    }
    if (form.flow !== Flow.next) this.putTarget(ins, form, offset, slot);
    if (form.special !== undefined) this.putSpecial(ins, form, offset, slot);
    return form.flow;
  }

  private putTarget(ins: iced.Instruction, form: DecodedForm, offset: number, slot: number): void {
    if (form.flow === Flow.branch || form.flow === Flow.either) {
      this.view.setInt32(slot + 8, this.targetOf(ins), true);
      if (form.flow === Flow.either) this.view.setInt32(slot + 12, offset + ins.length, true);
      if (form.op === Op.LOOP && this.hasAddressPrefix(ins)) this.u8[slot + 6] |= SCALE_ADDR32;
    }
  }

  /** The target relative to the block's start, because the decoder's ip counts from there. */
  private targetOf(ins: iced.Instruction): number {
    const target = ins.nearBranchTarget;
    if (this.kind === KIND_LONG) return Number(BigInt.asIntN(64, target));
    // iced-x86 has cut the target to the operand's size as if the block began at 0. That must be done later, when the
    // block's address is known.
    const next = ins.nextIP;
    const bits = ins.op0Kind === OpKind.NearBranch16 ? 16 : 32;
    return Number(next + BigInt.asIntN(bits, target - next));
  }

  private hasAddressPrefix(ins: iced.Instruction): boolean {
    switch (ins.code) {
      case Code.Jecxz_rel8_32:
      case Code.Loop_rel8_32_ECX:
      case Code.Loope_rel8_32_ECX:
      case Code.Loopne_rel8_32_ECX:
      case Code.Jecxz_rel8_64:
      case Code.Loop_rel8_64_ECX:
      case Code.Loope_rel8_64_ECX:
      case Code.Loopne_rel8_64_ECX:
        return true;
      default:
        return false;
    }
  }

  private putSpecial(ins: iced.Instruction, form: DecodedForm, offset: number, slot: number): void {
    switch (form.special) {
      case 'absolute':
        this.u8[slot + 6] = SEGMENT_SLOTS[ins.memorySegment];
        this.view.setBigUint64(slot + 8, ins.memoryDisplacement, true);
        break;
      case 'movabs': {
        const value = ins.immediate(form.imm);
        const narrow = registerLog[ins.opRegister(0)] === 2;
        this.view.setBigUint64(slot + 8, narrow ? value & 0xffff_ffffn : value, true);
        break;
      }
      case 'call':
        this.view.setInt32(slot + 12, offset + ins.length, true);
        break;
      case 'near':
        this.view.setInt32(slot + 8, this.targetOf(ins), true);
        break;
      case 'string': {
        const kind = ins.op0Kind;
        const other = ins.opCount > 1 ? ins.op1Kind : kind;
        const any = (...kinds: number[]): boolean => kinds.includes(kind) || kinds.includes(other);
        const short = any(OpKind.MemorySegSI, OpKind.MemoryESDI);
        const narrow = short || any(OpKind.MemorySegESI, OpKind.MemoryESEDI);
        const segment = any(OpKind.MemorySegSI, OpKind.MemorySegESI, OpKind.MemorySegRSI);
        const base = segment ? this.segmentSlot(ins.memorySegment) : ZERO;
        this.u8[slot + 2] = ins.hasRepnePrefix ? 2 : ins.hasRepPrefix ? 1 : 0;
        this.u8[slot + 6] = (short ? base & ~SCALE_SLOT : base) | (narrow ? SCALE_ADDR32 : 0);
        break;
      }
    }
  }

  private segmentSlot(segment: number): number {
    return this.kind === KIND_LONG ? SEGMENT_SLOTS[segment] : COMPAT_SLOTS[segment];
  }

  /** Writes base, index, scale, segment and displacement. Returns true if the address is just [base + disp]. */
  private putAddress(ins: iced.Instruction, slot: number, withSegment: boolean): boolean {
    const { u8, view } = this;
    const base = ins.memoryBase;
    const index = ins.memoryIndex;
    let narrow = this.kind !== KIND_LONG;
    let short = false;
    if (base === Register.RIP || base === Register.EIP) {
      narrow = base === Register.EIP;
      u8[slot + 4] = BLOCK_VA_SLOT;
      view.setInt32(slot + 8, Number(BigInt.asIntN(32, ins.ipRelMemoryAddress)), true);
    } else {
      if (base !== Register.None) {
        u8[slot + 4] = registerOffset[base];
        narrow ||= registerLog[base] === 2;
        short = registerLog[base] === 1;
      }
      // The index of Xlatb is al, which its operation adds itself.
      if (index !== Register.None && registerLog[index] >= 1) {
        u8[slot + 5] = registerOffset[index];
        narrow ||= registerLog[index] === 2;
        short ||= registerLog[index] === 1;
      }
      if (base === Register.None && index === Register.None) {
        narrow ||= ins.memoryDisplSize === 4;
        short = ins.memoryDisplSize === 2;
      }
      view.setInt32(slot + 8, Number(BigInt.asIntN(32, ins.memoryDisplacement)), true);
    }
    const segment = withSegment ? this.segmentSlot(ins.memorySegment) : ZERO;
    const where = segment | SCALES[ins.memoryIndexScale] | (narrow ? SCALE_ADDR32 : 0);
    u8[slot + 6] = short ? where & ~SCALE_SLOT : where;
    return u8[slot + 5] === ZERO && u8[slot + 6] === ZERO;
  }

  private emitFloat(ins: iced.Instruction, slot: number): Flow {
    const { length } = ins;
    const move = moves[ins.code];
    if (move !== undefined && (ins.op0Kind === OpKind.Memory || ins.op1Kind === OpKind.Memory)) {
      const [store, aligned] = move;
      const register = ins.opRegister(store ? 1 : 0) - Register.XMM0;
      this.put(slot, store ? Op.MOVUPS_MR : Op.MOVUPS_RM, register, aligned ? 1 : 0, length, 0, 0);
      this.putAddress(ins, slot, true);
      return Flow.next;
    }
    if (ins.hasLockPrefix) return this.raise(slot, UD, length);
    const whole = decodeFp(ins);
    if (whole === undefined) return this.raise(slot, UD, length);
    const fp = this.kind === KIND_LONG ? whole : withoutUpperVectors(whole);
    this.put(slot, FLOAT, 0, 0, length, 0, this.descriptor(fp));
    if (fp.form.implicitDi) {
      const short = ins.op0Kind === OpKind.MemorySegDI;
      const base = this.segmentSlot(ins.memorySegment);
      this.u8[slot + 4] = RDI;
      this.u8[slot + 6] = short
        ? (base & ~SCALE_SLOT) | SCALE_ADDR32
        : base | (ins.op0Kind === OpKind.MemorySegEDI ? SCALE_ADDR32 : 0);
    } else if (fp.form.loadSize + fp.form.storeSize > 0) this.putAddress(ins, slot, true);
    return Flow.next;
  }

  /** Returns the address of a descriptor with these contents; see core/float.ts. */
  private descriptor(fp: FpOperation): number {
    const { form } = fp;
    const { view } = this;
    const next = view.getUint32(FP_NEXT, true);
    if (next === FP_DESCRIPTORS) this.descriptors.clear();
    const bits = (form.align16 ? 1 : 0) | (form.flags ? 2 : 0) | (form.waits ? 8 : 0);
    const unit = (form.unit === 'x87' ? 0 : form.unit === 'mmx' ? 1 : 2) | (form.wait ? 0x80 : 0);
    const key = `${fp.op},${form.loadSize},${form.storeSize},${fp.src},${fp.imm},${fp.dst},${bits},${unit}`;
    const known = this.descriptors.get(key);
    if (known !== undefined) return known;
    view.setUint16(next, fp.op, true);
    view.setUint16(next + 2, form.loadSize, true);
    view.setUint16(next + 4, form.storeSize, true);
    view.setUint16(next + 6, fp.src, true);
    view.setInt32(next + 8, fp.imm, true);
    view.setUint8(next + 12, fp.dst);
    view.setUint8(next + 14, bits);
    view.setUint8(next + 15, unit);
    view.setUint32(FP_NEXT, next + 16, true);
    this.descriptors.set(key, next);
    return next;
  }
}
