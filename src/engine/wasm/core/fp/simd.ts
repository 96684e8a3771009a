// Instructions on XMM and MM registers without floating-point arithmetic: integer arithmetic, shuffles and moves.
// Results for memory go to the scratch area, and the engine then stores them.
import { enterMmx } from './mmx-state';
import { FpOp } from './ops';
import { blend, low, shuffleDwords, shuffleWords, simdInteger } from './simd-int';
import { FSW, FTW, SCRATCH, ST, VECTOR_MF, VECTOR_UD, XMM } from './state';

// @ts-ignore: decorator
@inline
function gpr(cpu: usize, i: i32): usize {
  return cpu + (<usize>i << 3);
}

/** Integer operations on XMM registers, from FpOp.PUNPCKLBW on. */
export function simdXmm(cpu: usize, op: i32, dst: i32, src: usize, imm: i32): i32 {
  const d = cpu + XMM + (<usize>dst << 4);
  if (op < FpOp.PSHUFD) {
    v128.store(d, simdInteger(op, v128.load(d), v128.load(src), imm));
    return 0;
  }
  switch (op) {
    case FpOp.PSHUFD:
      shuffleDwords(d, src, src, imm);
      return 0;
    case FpOp.PSHUFHW: {
      const lo = load<u64>(src);
      store<u64>(d, shuffleWords(src + 8, imm), 8);
      store<u64>(d, lo);
      return 0;
    }
    case FpOp.PSHUFLW: {
      const hi = load<u64>(src, 8);
      store<u64>(d, shuffleWords(src, imm));
      store<u64>(d, hi, 8);
      return 0;
    }
    case FpOp.SHUFPS:
      shuffleDwords(d, d, src, imm);
      return 0;
    case FpOp.SHUFPD: {
      const lo = load<u64>(d + (<usize>(imm & 1) << 3));
      const hi = load<u64>(src + (<usize>(imm & 2) << 2));
      store<u64>(d, lo);
      store<u64>(d, hi, 8);
      return 0;
    }
    case FpOp.PINSRW:
      store<u16>(d + (<usize>(imm & 7) << 1), load<u16>(src));
      return 0;
    case FpOp.PEXTRW:
      store<u64>(gpr(cpu, dst), load<u16>(src + (<usize>(imm & 7) << 1)));
      return 0;
    case FpOp.PMOVMSKB:
      store<u64>(gpr(cpu, dst), <u64>i8x16.bitmask(v128.load(src)));
      return 0;
    case FpOp.MASKMOV:
      v128.store(
        cpu + SCRATCH,
        blend(v128.load(src), v128.load(d), v128.load(cpu + XMM + (<usize>imm << 4))),
      );
      return 0;
    default:
      return VECTOR_UD;
  }
}

// @ts-ignore: decorator
@inline
function writeMm(d: usize, value: u64): void {
  store<u64>(d, value);
  store<u16>(d, 0xffff, 8);
}

/** The same operations on MM registers. `op` is without FpOp.MMX. */
export function simdMm(cpu: usize, op: i32, dst: i32, src: usize, imm: i32): i32 {
  if (load<u16>(cpu + FSW) & 0x80) return VECTOR_MF;
  enterMmx(cpu);
  const d = cpu + ST + (<usize>dst << 4);
  if (op < FpOp.PSHUFD) {
    const a = v128.load64_zero(d), b = v128.load64_zero(src);
    let r: u64;
    if (op >= FpOp.PUNPCKHBW && op <= FpOp.PUNPCKHDQ)
      r = <u64>i64x2.extract_lane(simdInteger(op - (FpOp.PUNPCKHBW - FpOp.PUNPCKLBW), a, b, 0), 1);
    else if (op >= FpOp.PACKSSWB && op <= FpOp.PACKSSDW) {
      const both = i64x2.shuffle(a, b, 0, 2);
      r = low(simdInteger(op, both, both, 0));
    } else r = low(simdInteger(op, a, b, imm));
    writeMm(d, r);
    return 0;
  }
  switch (op) {
    case FpOp.PSHUFW:
      writeMm(d, shuffleWords(src, imm));
      return 0;
    case FpOp.PINSRW: {
      const value = load<u16>(src);
      store<u16>(d + (<usize>(imm & 3) << 1), value);
      store<u16>(d, 0xffff, 8);
      return 0;
    }
    case FpOp.PEXTRW:
      store<u64>(gpr(cpu, dst), load<u16>(src + (<usize>(imm & 3) << 1)));
      return 0;
    case FpOp.PMOVMSKB:
      store<u64>(gpr(cpu, dst), <u64>(i8x16.bitmask(v128.load64_zero(src)) & 0xff));
      return 0;
    case FpOp.MASKMOV:
      store<u64>(
        cpu + SCRATCH,
        low(blend(v128.load64_zero(src), v128.load64_zero(d), v128.load64_zero(cpu + ST + (<usize>imm << 4)))),
      );
      return 0;
    default:
      return VECTOR_UD;
  }
}

/** Moves between XMM registers and to general registers. */
export function moveXmm(cpu: usize, op: i32, dst: i32, src: usize): i32 {
  const d = cpu + XMM + (<usize>dst << 4);
  switch (op) {
    case FpOp.MOV16:
      v128.store(d, v128.load(src));
      return 0;
    case FpOp.MOV8Z:
      v128.store(d, v128.load64_zero(src));
      return 0;
    case FpOp.MOV4Z:
      v128.store(d, v128.load32_zero(src));
      return 0;
    case FpOp.MOV8L:
      store<u64>(d, load<u64>(src));
      return 0;
    case FpOp.MOV4L:
      store<u32>(d, load<u32>(src));
      return 0;
    case FpOp.MOV8H:
      store<u64>(d, load<u64>(src), 8);
      return 0;
    case FpOp.MOVHLPS:
      store<u64>(d, load<u64>(src, 8));
      return 0;
    case FpOp.ST16:
      v128.store(cpu + SCRATCH, v128.load(src));
      return 0;
    case FpOp.ST8:
      store<u64>(cpu + SCRATCH, load<u64>(src));
      return 0;
    case FpOp.ST4:
      store<u32>(cpu + SCRATCH, load<u32>(src));
      return 0;
    case FpOp.STH8:
      store<u64>(cpu + SCRATCH, load<u64>(src, 8));
      return 0;
    case FpOp.TOGPR32:
      store<u64>(gpr(cpu, dst), <u64>load<u32>(src));
      return 0;
    case FpOp.TOGPR64:
      store<u64>(gpr(cpu, dst), load<u64>(src));
      return 0;
    case FpOp.MOVMSKPS:
      store<u64>(gpr(cpu, dst), <u64>i32x4.bitmask(v128.load(src)));
      return 0;
    case FpOp.MOVMSKPD:
      store<u64>(gpr(cpu, dst), <u64>i64x2.bitmask(v128.load(src)));
      return 0;
    default:
      return VECTOR_UD;
  }
}

/** Moves with MM registers, and EMMS. */
export function moveMm(cpu: usize, op: i32, dst: i32, src: usize): i32 {
  if (load<u16>(cpu + FSW) & 0x80) return VECTOR_MF;
  if (op == FpOp.EMMS) {
    store<u16>(cpu + FSW, load<u16>(cpu + FSW) & 0xc7ff);
    store<u8>(cpu + FTW, 0);
    return 0;
  }
  const d = cpu + ST + (<usize>dst << 4);
  switch (op) {
    case FpOp.MMXLD8:
      writeMm(d, load<u64>(src));
      break;
    case FpOp.MMXLD4:
      writeMm(d, <u64>load<u32>(src));
      break;
    case FpOp.MMXST8:
      store<u64>(cpu + SCRATCH, load<u64>(src));
      return 0; // fpCommit changes the state after the store
    case FpOp.MMXST4:
      store<u32>(cpu + SCRATCH, load<u32>(src));
      return 0;
    case FpOp.MMXTOGPR32:
      store<u64>(gpr(cpu, dst), <u64>load<u32>(src));
      break;
    case FpOp.MMXTOGPR64:
      store<u64>(gpr(cpu, dst), load<u64>(src));
      break;
    case FpOp.MOVQ2DQ:
      v128.store(cpu + XMM + (<usize>dst << 4), v128.load64_zero(src));
      break;
    case FpOp.MOVDQ2Q:
      writeMm(d, load<u64>(src));
      break;
    default:
      return VECTOR_UD;
  }
  enterMmx(cpu);
  return 0;
}
