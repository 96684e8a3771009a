/**
 * From x86-64 bytes to decoded operations: one basic block at a time, by iced-x86's decoder. The operations are
 * position independent (addresses relative to rip refer to the block's start), so that a block belongs to its
 * physical page whatever address it is mapped at.
 *
 * An operation, 16 bytes: u16 operation, u8 dst, u8 src (byte offsets in the register file), u8 base, u8 index
 * (register numbers; 16 is the block's address, 17 is zero), u8 {scale:2, segment:2, size:2, address32:1},
 * u8 length, i32 displacement, i32 immediate. The numbers are those of core/index.ts.
 */
import * as iced from 'iced-x86';
import { decodeFp, type FpOperation } from './decode-fp.js';

const { Mnemonic: M, OpKind, Register } = iced;

export const BLOCK_HEADER = 16;
export const OP_BYTES = 16;
const MAX_OPS = 48;
const NONE = 255;

const registerOffset = new Map<number, number>();
const R = Register as unknown as Record<string, number>;
const NAMES = ['AX', 'CX', 'DX', 'BX', 'SP', 'BP', 'SI', 'DI'];
for (let i = 0; i < 16; i++) {
  const legacy = i < 8 ? NAMES[i] : `R${i}`;
  registerOffset.set(R[i < 8 ? `R${legacy}` : legacy], 8 * i);
  registerOffset.set(R[i < 8 ? `E${legacy}` : `${legacy}D`], 8 * i);
  registerOffset.set(R[i < 8 ? legacy : `${legacy}W`], 8 * i);
  registerOffset.set(R[i < 4 ? `${legacy[0]}L` : i < 8 ? `${legacy}L` : `${legacy}L`], 8 * i);
}
for (let i = 0; i < 4; i++) registerOffset.set(R[`${NAMES[i][0]}H`], 8 * i + 1);
const SEGMENTS = [R.ES, R.CS, R.SS, R.DS, R.FS, R.GS];

const ALU = new Map<number, number>([
  [M.Add, 0],
  [M.Or, 1],
  [M.Adc, 2],
  [M.Sbb, 3],
  [M.And, 4],
  [M.Sub, 5],
  [M.Xor, 6],
  [M.Cmp, 7],
  [M.Test, 8],
]);
const SHIFT = new Map<number, number>([
  [M.Rol, 0],
  [M.Ror, 1],
  [M.Rcl, 2],
  [M.Rcr, 3],
  [M.Shl, 4],
  [M.Shr, 5],
  [M.Sal, 4],
  [M.Sar, 7],
]);
const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const byCondition = (prefix: string): Map<number, number> =>
  new Map(CONDITIONS.map((c, i) => [(M as unknown as Record<string, number>)[prefix + c], i]));
const JCC = byCondition('J');
const SETCC = byCondition('Set');
const CMOVCC = byCondition('Cmov');
const UNARY = new Map<number, number>([
  [M.Inc, 0],
  [M.Dec, 1],
  [M.Neg, 2],
  [M.Not, 3],
]);
const MULDIV = new Map<number, number>([
  [M.Mul, 4],
  [M.Imul, 5],
  [M.Div, 6],
  [M.Idiv, 7],
]);
const BT = new Map<number, number>([
  [M.Bt, 0],
  [M.Bts, 1],
  [M.Btr, 2],
  [M.Btc, 3],
]);
const LOOPS = new Map<number, number>([
  [M.Jrcxz, 0],
  [M.Loop, 1],
  [M.Loope, 2],
  [M.Loopne, 3],
]);
const STRINGS = new Map<number, readonly [number, number]>([
  [M.Movsb, [0, 0]],
  [M.Movsw, [0, 1]],
  [M.Movsd, [0, 2]],
  [M.Movsq, [0, 3]],
  [M.Stosb, [1, 0]],
  [M.Stosw, [1, 1]],
  [M.Stosd, [1, 2]],
  [M.Stosq, [1, 3]],
  [M.Lodsb, [2, 0]],
  [M.Lodsw, [2, 1]],
  [M.Lodsd, [2, 2]],
  [M.Lodsq, [2, 3]],
  [M.Scasb, [3, 0]],
  [M.Scasw, [3, 1]],
  [M.Scasd, [3, 2]],
  [M.Scasq, [3, 3]],
  [M.Cmpsb, [4, 0]],
  [M.Cmpsw, [4, 1]],
  [M.Cmpsd, [4, 2]],
  [M.Cmpsq, [4, 3]],
]);
const NOPS = new Set<number>([
  M.Nop,
  M.Pause,
  M.Endbr64,
  M.Endbr32,
  M.Prefetchw,
  M.Prefetch,
  M.Prefetchnta,
  M.Prefetcht0,
  M.Prefetcht1,
  M.Prefetcht2,
  M.Mfence,
  M.Lfence,
  M.Sfence,
  M.Clflush,
  M.Reservednop,
]);
const PRIVILEGED = new Set<number>([
  M.Hlt,
  M.Cli,
  M.Sti,
  M.In,
  M.Out,
  M.Insb,
  M.Insw,
  M.Insd,
  M.Outsb,
  M.Outsw,
  M.Outsd,
  M.Rdmsr,
  M.Wrmsr,
  M.Clts,
  M.Lmsw,
  M.Invd,
  M.Wbinvd,
  M.Invlpg,
  M.Lgdt,
  M.Lidt,
  M.Lldt,
  M.Ltr,
  M.Swapgs,
  M.Sysexit,
  M.Sysret,
  M.Rdpmc,
  M.Rdtscp,
  M.Smsw,
  M.Xgetbv,
]);
const DESCRIPTOR = new Set<number>([
  M.Iret,
  M.Iretd,
  M.Iretq,
  M.Retf,
  M.Lar,
  M.Lsl,
  M.Verr,
  M.Verw,
  M.Sgdt,
  M.Sidt,
  M.Sldt,
  M.Str,
  M.Lss,
  M.Lfs,
  M.Lgs,
]);

export interface DecodedBlock {
  /** Operations, OP_BYTES each. */
  readonly count: number;
  /** Whether its only instruction reaches into the next page. */
  readonly crossing: boolean;
}

/** Reads bytes of code: as many as are there from an address within one page, and beyond where `beyond` gives them. */
export type CodeBytes = { readonly bytes: Uint8Array; readonly beyond: () => Uint8Array | undefined };

export class BlockDecoder {
  private readonly instruction = new iced.Instruction();

  /** `descriptor` gives the address of a floating-point operation's descriptor. */
  constructor(private readonly descriptor: (fp: FpOperation) => number) {}

  /** Writes a block's operations at `at`; returns undefined if the first instruction cannot be fetched whole. */
  decode(code: CodeBytes, va: bigint, view: DataView, at: number): DecodedBlock | undefined {
    const { bytes } = code;
    let decoder = new iced.Decoder(64, bytes, iced.DecoderOptions.None);
    decoder.ip = va;
    const ins = this.instruction;
    let count = 0;
    let offset = 0;
    try {
      while (count < MAX_OPS) {
        decoder.decodeOut(ins);
        if (ins.code === iced.Code.INVALID && bytes.length - offset < 15) {
          if (count > 0) return { count, crossing: false };
          const more = code.beyond();
          if (more === undefined) return undefined;
          const joined = new Uint8Array(bytes.length + more.length);
          joined.set(bytes);
          joined.set(more, bytes.length);
          decoder.free();
          decoder = new iced.Decoder(64, joined, iced.DecoderOptions.None);
          decoder.ip = va;
          decoder.decodeOut(ins);
          this.emit(ins, va, offset, view, at);
          return { count: 1, crossing: true };
        }
        const last = this.emit(ins, va, offset, view, at + count * OP_BYTES);
        count++;
        offset += ins.length === 0 ? 1 : ins.length;
        if (last) break;
        if (offset >= bytes.length) break;
      }
      return { count, crossing: false };
    } finally {
      decoder.free();
    }
  }

  /** One operation; true if it ends the block. */
  private emit(ins: iced.Instruction, va: bigint, offset: number, view: DataView, at: number): boolean {
    const m = ins.mnemonic;
    const length = ins.length;
    const nextOffset = offset + length;
    const put = (op: number, dst: number, src: number, size: number, imm: number, memory = false): void => {
      view.setUint16(at, op, true);
      view.setUint8(at + 2, dst);
      view.setUint8(at + 3, src);
      let base = 17;
      let index = 17;
      let flags = size << 4;
      let disp = 0;
      if (memory) {
        let b = ins.memoryBase as number;
        const i = ins.memoryIndex as number;
        if (b === Register.RIP || b === Register.EIP) {
          base = 16;
          disp = Number(BigInt.asIntN(64, ins.ipRelMemoryAddress - va));
        } else {
          if (b !== 0) {
            base = (registerOffset.get(b) as number) >> 3;
            if (b >= R.EAX && b <= R.R15D) flags |= 0x40;
          }
          if (i !== 0) {
            index = (registerOffset.get(i) as number) >> 3;
            if (i >= R.EAX && i <= R.R15D) flags |= 0x40;
          }
          flags |= [0, 0, 1, 0, 2, 0, 0, 0, 3][ins.memoryIndexScale];
          disp = Number(BigInt.asIntN(32, ins.memoryDisplacement));
          if (b === 0 && i === 0 && ins.memoryDisplSize === 8)
            disp = Number(BigInt.asIntN(32, ins.memoryDisplacement));
        }
        b = ins.memorySegment as number;
        if (b === Register.FS) flags |= 4;
        else if (b === Register.GS) flags |= 8;
      }
      view.setUint8(at + 4, base);
      view.setUint8(at + 5, index);
      view.setUint8(at + 6, flags);
      view.setUint8(at + 7, length);
      view.setInt32(at + 8, disp, true);
      view.setInt32(at + 12, imm, true);
    };
    const undefinedOp = (): boolean => {
      put(111, 0, 0, 0, 6);
      return true;
    };
    const fault = (vector: number): boolean => {
      put(111, 0, 0, 0, vector);
      return true;
    };
    const leave = (reason: number): boolean => {
      put(113, 0, 0, 0, reason);
      return true;
    };
    if (ins.code === iced.Code.INVALID) return length > 15 ? fault(13) : undefinedOp();

    const kind = (i: number): number => ins.opKind(i) as number;
    const isReg = (i: number): boolean => kind(i) === OpKind.Register;
    const isMem = (i: number): boolean => kind(i) === OpKind.Memory;
    const reg = (i: number): number => registerOffset.get(ins.opRegister(i) as number) ?? NONE;
    const regSize = (r: number): number =>
      r >= R.RAX && r <= R.R15 ? 3 : r >= R.EAX && r <= R.R15D ? 2 : r >= R.AX && r <= R.R15W ? 1 : 0;
    const memSize = (): number => {
      const bytes = iced.MemorySizeExt.size(ins.memorySize);
      return bytes === 8 ? 3 : bytes === 4 ? 2 : bytes === 2 ? 1 : 0;
    };
    const sizeOf = (i: number): number => (isReg(i) ? regSize(ins.opRegister(i) as number) : memSize());
    const immediate = (i: number): number => Number(BigInt.asIntN(32, ins.immediate(i)));
    const isMoffs64 =
      ins.opCount === 2 &&
      (isMem(0) || isMem(1)) &&
      ins.memoryBase === 0 &&
      ins.memoryIndex === 0 &&
      ins.memoryDisplSize === 8 &&
      BigInt.asIntN(32, ins.memoryDisplacement) !== BigInt.asIntN(64, ins.memoryDisplacement);
    if (ins.hasLockPrefix && !(ins.opCount > 0 && isMem(0))) return undefinedOp();

    const alu = ALU.get(m);
    if (alu !== undefined) {
      const size = sizeOf(0);
      if (isReg(0)) {
        if (isReg(1)) put(alu * 5, reg(0), reg(1), size, 0);
        else if (isMem(1)) put(alu * 5 + 2, reg(0), 0, size, 0, true);
        else put(alu * 5 + 1, reg(0), 0, size, immediate(1));
      } else if (isReg(1)) put(alu * 5 + 3, 0, reg(1), size, 0, true);
      else put(alu * 5 + 4, 0, 0, size, immediate(1), true);
      return false;
    }
    const jcc = JCC.get(m);
    if (jcc !== undefined) {
      put(72, jcc, 0, 0, Number(BigInt.asIntN(64, ins.nearBranchTarget - va)));
      view.setInt32(at + 8, nextOffset, true);
      return true;
    }
    const shift = SHIFT.get(m);
    if (shift !== undefined) {
      const count = isReg(1) ? -1 : Number(ins.immediate(1) & 0xffn);
      put(isReg(0) ? 79 : 80, isReg(0) ? reg(0) : 0, shift, sizeOf(0), count, !isReg(0));
      return false;
    }
    const unary = UNARY.get(m);
    if (unary !== undefined) {
      put(isReg(0) ? 77 : 78, isReg(0) ? reg(0) : 0, unary, sizeOf(0), 0, !isReg(0));
      return false;
    }
    const setcc = SETCC.get(m);
    if (setcc !== undefined) {
      put(isReg(0) ? 73 : 74, isReg(0) ? reg(0) : 0, setcc, 0, 0, !isReg(0));
      return false;
    }
    const cmov = CMOVCC.get(m);
    if (cmov !== undefined) {
      put(isReg(1) ? 75 : 76, reg(0), isReg(1) ? reg(1) : 0, sizeOf(0), cmov, !isReg(1));
      return false;
    }
    const muldiv = MULDIV.get(m);
    if (muldiv !== undefined && ins.opCount === 1) {
      put(isReg(0) ? 83 : 84, muldiv, isReg(0) ? reg(0) : 0, sizeOf(0), 0, !isReg(0));
      return false;
    }
    const bt = BT.get(m);
    if (bt !== undefined) {
      const size = sizeOf(0);
      const bitImmediate = !isReg(1);
      if (isReg(0)) {
        put(91, reg(0), bt, size, bitImmediate ? immediate(1) : 0);
        view.setUint8(at + 4, bitImmediate ? NONE : reg(1));
      } else put(92, bitImmediate ? NONE : reg(1), bt, size, bitImmediate ? immediate(1) : 0, true);
      return false;
    }
    const loop = LOOPS.get(m);
    if (loop !== undefined) {
      put(106, 0, loop, 0, Number(BigInt.asIntN(64, ins.nearBranchTarget - va)));
      view.setInt32(at + 8, nextOffset, true);
      return true;
    }
    const string = STRINGS.get(m);
    if (
      string !== undefined &&
      (ins.opCount === 0 ||
        kind(0) === OpKind.MemoryESRDI ||
        kind(1) === OpKind.MemoryESRDI ||
        kind(0) === OpKind.MemorySegRSI ||
        kind(1) === OpKind.MemorySegRSI)
    ) {
      const repeat = ins.hasRepnePrefix ? (string[0] >= 3 ? 2 : 1) : ins.hasRepPrefix ? 1 : 0;
      const segment = ins.memorySegment === Register.FS ? 1 : ins.memorySegment === Register.GS ? 2 : 0;
      put(107, segment, string[0], string[1], repeat);
      return false;
    }
    if (NOPS.has(m)) {
      put(45, 0, 0, 0, 0);
      return false;
    }
    if (PRIVILEGED.has(m)) return leave(3);
    if (DESCRIPTOR.has(m)) return leave(4);

    switch (m) {
      case M.Mov: {
        const target = ins.opRegister(0) as number;
        const source = ins.opRegister(1) as number;
        if (isReg(0) && SEGMENTS.includes(target)) return leave(4);
        if (isReg(1) && SEGMENTS.includes(source)) {
          if (isReg(0)) put(114, reg(0), SEGMENTS.indexOf(source), sizeOf(0), 0);
          else put(115, 0, SEGMENTS.indexOf(source), 1, 0, true);
          return false;
        }
        if ((isReg(0) && reg(0) === NONE) || (isReg(1) && reg(1) === NONE)) return leave(3); // control, debug
        if (isMoffs64) {
          put(isReg(0) ? 118 : 119, 0, 0, isReg(0) ? sizeOf(0) : sizeOf(1), 0);
          view.setUint8(
            at + 4,
            ins.memorySegment === Register.FS ? 1 : ins.memorySegment === Register.GS ? 2 : 0,
          );
          view.setBigUint64(at + 8, ins.memoryDisplacement, true);
          return false;
        }
        const size = sizeOf(0);
        if (isReg(0)) {
          if (isReg(1)) put(46, reg(0), reg(1), size, 0);
          else if (isMem(1)) put(49, reg(0), 0, size, 0, true);
          else {
            const value = ins.immediate(1);
            if (kind(1) === OpKind.Immediate64 && BigInt.asIntN(32, value) !== BigInt.asIntN(64, value)) {
              put(48, reg(0), 0, size, 0);
              view.setBigUint64(at + 8, BigInt.asUintN(64, value), true);
            } else put(47, reg(0), 0, size, immediate(1));
          }
        } else if (isReg(1)) put(50, 0, reg(1), size, 0, true);
        else put(51, 0, 0, size, immediate(1), true);
        return false;
      }
      case M.Movnti:
        put(50, 0, reg(1), sizeOf(1), 0, true);
        return false;
      case M.Lea:
        put(52, reg(0), 0, sizeOf(0), 0, true);
        view.setUint8(at + 6, view.getUint8(at + 6) & ~0x0c);
        return false;
      case M.Movzx:
        if (isReg(1)) put(53, reg(0), reg(1), sizeOf(0), sizeOf(1));
        else put(54, reg(0), 0, sizeOf(0), memSize(), true);
        return false;
      case M.Movsx:
      case M.Movsxd:
        if (isReg(1)) put(55, reg(0), reg(1), sizeOf(0), sizeOf(1));
        else put(56, reg(0), 0, sizeOf(0), memSize(), true);
        return false;
      case M.Xchg:
        if (isReg(0) && isReg(1)) put(57, reg(0), reg(1), sizeOf(0), 0);
        else if (isReg(1)) put(58, 0, reg(1), sizeOf(1), 0, true);
        else put(58, 0, reg(0), sizeOf(0), 0, true);
        return false;
      case M.Push: {
        if (isReg(0)) {
          const source = ins.opRegister(0) as number;
          if (SEGMENTS.includes(source))
            put(
              120,
              0,
              SEGMENTS.indexOf(source),
              ins.code === iced.Code.Pushq_FS || ins.code === iced.Code.Pushq_GS ? 3 : 1,
              0,
            );
          else put(59, reg(0), 0, sizeOf(0), 0);
        } else if (isMem(0)) put(60, 0, 0, memSize(), 0, true);
        else
          put(
            59,
            NONE,
            0,
            ins.code === iced.Code.Push_imm16 || ins.code === iced.Code.Pushw_imm8 ? 1 : 3,
            immediate(0),
          );
        return false;
      }
      case M.Pop:
        if (isReg(0)) {
          if (SEGMENTS.includes(ins.opRegister(0) as number)) return leave(4);
          put(61, reg(0), 0, sizeOf(0), 0);
        } else put(62, 0, 0, memSize(), 0, true);
        return false;
      case M.Pushfq:
        put(63, 0, 0, 3, 0);
        return false;
      case M.Pushf:
        put(63, 0, 0, 1, 0);
        return false;
      case M.Popfq:
        put(64, 0, 0, 3, 0);
        return true;
      case M.Popf:
        put(64, 0, 0, 1, 0);
        return true;
      case M.Call:
        if (isReg(0)) put(66, 0, reg(0), 3, nextOffset);
        else if (isMem(0)) {
          if (memSize() !== 3) return leave(4);
          put(67, 0, 0, 3, nextOffset, true);
        } else {
          put(65, 0, 0, 3, Number(BigInt.asIntN(64, ins.nearBranchTarget - va)));
          view.setInt32(at + 8, nextOffset, true);
        }
        return true;
      case M.Jmp:
        if (isReg(0)) put(70, 0, reg(0), 3, 0);
        else if (isMem(0)) {
          if (memSize() !== 3) return leave(4);
          put(71, 0, 0, 3, 0, true);
        } else put(69, 0, 0, 3, Number(BigInt.asIntN(64, ins.nearBranchTarget - va)));
        return true;
      case M.Ret:
        put(68, 0, 0, 3, ins.opCount === 1 ? Number(ins.immediate(0)) & 0xffff : 0);
        return true;
      case M.Shld:
      case M.Shrd: {
        const count = isReg(2) ? 0xff : Number(ins.immediate(2)) & 0x3f;
        put(
          isReg(0) ? 81 : 82,
          isReg(0) ? reg(0) : 0,
          reg(1),
          sizeOf(1),
          count | (m === M.Shrd ? 0x100 : 0),
          !isReg(0),
        );
        return false;
      }
      case M.Imul:
        if (ins.opCount === 2)
          put(isReg(1) ? 85 : 86, reg(0), isReg(1) ? reg(1) : 0, sizeOf(0), 0, !isReg(1));
        else put(isReg(1) ? 87 : 88, reg(0), isReg(1) ? reg(1) : 0, sizeOf(0), immediate(2), !isReg(1));
        return false;
      case M.Cbw:
        put(89, 0, 0, 1, 0);
        return false;
      case M.Cwde:
        put(89, 0, 0, 2, 0);
        return false;
      case M.Cdqe:
        put(89, 0, 0, 3, 0);
        return false;
      case M.Cwd:
        put(90, 0, 0, 1, 0);
        return false;
      case M.Cdq:
        put(90, 0, 0, 2, 0);
        return false;
      case M.Cqo:
        put(90, 0, 0, 3, 0);
        return false;
      case M.Bsf:
      case M.Tzcnt:
        put(isReg(1) ? 93 : 94, reg(0), isReg(1) ? reg(1) : 0, sizeOf(0), 0, !isReg(1));
        return false;
      case M.Bsr:
      case M.Lzcnt:
        put(isReg(1) ? 93 : 94, reg(0), isReg(1) ? reg(1) : 0, sizeOf(0), 1, !isReg(1));
        return false;
      case M.Bswap:
        put(95, reg(0), 0, sizeOf(0), 0);
        return false;
      case M.Cmpxchg:
        put(isReg(0) ? 96 : 97, isReg(0) ? reg(0) : 0, reg(1), sizeOf(1), 0, !isReg(0));
        return false;
      case M.Xadd:
        put(isReg(0) ? 98 : 99, isReg(0) ? reg(0) : 0, reg(1), sizeOf(1), 0, !isReg(0));
        return false;
      case M.Cmpxchg8b:
        put(100, 0, 0, 2, 2, true);
        return false;
      case M.Cmpxchg16b:
        put(100, 0, 0, 3, 3, true);
        return false;
      case M.Clc:
        put(101, 0, 0, 0, 0);
        return false;
      case M.Stc:
        put(101, 0, 1, 0, 0);
        return false;
      case M.Cmc:
        put(101, 0, 2, 0, 0);
        return false;
      case M.Cld:
        put(102, 0, 0, 0, 0);
        return false;
      case M.Std:
        put(102, 0, 1, 0, 0);
        return false;
      case M.Lahf:
        put(103, 0, 0, 0, 0);
        return false;
      case M.Sahf:
        put(104, 0, 0, 0, 0);
        return false;
      case M.Leave:
        put(105, 0, 0, 3, 0);
        return false;
      case M.Enter:
        if (ins.immediate8_2nd !== 0) return undefinedOp();
        put(117, 0, 0, 3, ins.immediate16);
        return false;
      case M.Xlatb:
        put(116, ins.memorySegment === Register.FS ? 1 : ins.memorySegment === Register.GS ? 2 : 0, 0, 0, 0);
        return false;
      case M.Syscall:
        put(108, 0, 0, 0, 0);
        return true;
      case M.Rdtsc:
        put(109, 0, 0, 0, 0);
        return true;
      case M.Cpuid:
        put(110, 0, 0, 0, 0);
        return true;
      case M.Int3:
        put(112, 0, 0, 0, 3);
        return true;
      case M.Int:
        put(112, 0, 0, 0, ins.immediate8);
        return true;
      case M.Ud2:
        put(113, 0, 0, 0, 5);
        return true;
      default:
        return this.emitFloat(ins, put, undefinedOp);
    }
  }

  /** Floating point and SIMD: an operation with a descriptor of its own, made once for each form and operands. */
  private emitFloat(
    ins: iced.Instruction,
    put: (op: number, dst: number, src: number, size: number, imm: number, memory?: boolean) => void,
    undefinedOp: () => boolean,
  ): boolean {
    const fp = decodeFp(ins);
    if (fp === undefined) return undefinedOp();
    const { form } = fp;
    const memory = form.loadSize + form.storeSize > 0;
    put(121, 0, 0, 0, this.descriptor(fp), memory && !form.implicitDi);
    return false;
  }
}
