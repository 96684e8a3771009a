// Integer SIMD: MMX and its SSE2 extension, done with WebAssembly's own vectors (which were modelled on them). An MMX
// operation is the low half of the 128-bit one, except where both halves contribute: packs and the upper unpacks. SDM
// volume 1, 5.4 and 5.6.
import { FpOp } from './ops';

// @ts-ignore: decorator
@inline
function lanes8(a: v128, b: v128): v128 {
  return i64x2.shuffle(a, b, 0, 2);
}

// Shift counts of 64 bits; beyond the lane everything is shifted out (arithmetic: all sign).
// @ts-ignore: decorator
@inline
function clamp(count: u64, width: u64): i32 {
  return count < width ? <i32>count : -1;
}

function shift(kind: i32, a: v128, count: u64): v128 {
  const zero = i64x2.splat(0);
  switch (kind) {
    case 0: {
      const n = clamp(count, 16);
      return n < 0 ? zero : i16x8.shl(a, n);
    }
    case 1: {
      const n = clamp(count, 32);
      return n < 0 ? zero : i32x4.shl(a, n);
    }
    case 2: {
      const n = clamp(count, 64);
      return n < 0 ? zero : i64x2.shl(a, n);
    }
    case 3: {
      const n = clamp(count, 16);
      return n < 0 ? zero : i16x8.shr_u(a, n);
    }
    case 4: {
      const n = clamp(count, 32);
      return n < 0 ? zero : i32x4.shr_u(a, n);
    }
    case 5: {
      const n = clamp(count, 64);
      return n < 0 ? zero : i64x2.shr_u(a, n);
    }
    case 6:
      return i16x8.shr_s(a, count < 16 ? <i32>count : 15);
    default:
      return i32x4.shr_s(a, count < 32 ? <i32>count : 31);
  }
}

/** Computes a op b. For the MMX forms only the low half counts, except for unpacks and packs. */
export function simdInteger(op: i32, a: v128, b: v128, imm: i32): v128 {
  switch (op) {
    case FpOp.PUNPCKLBW:
      return i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    case FpOp.PUNPCKLWD:
      return i16x8.shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    case FpOp.PUNPCKLDQ:
      return i32x4.shuffle(a, b, 0, 4, 1, 5);
    case FpOp.PUNPCKLQDQ:
      return i64x2.shuffle(a, b, 0, 2);
    case FpOp.PUNPCKHBW:
      return i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    case FpOp.PUNPCKHWD:
      return i16x8.shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    case FpOp.PUNPCKHDQ:
      return i32x4.shuffle(a, b, 2, 6, 3, 7);
    case FpOp.PUNPCKHQDQ:
      return i64x2.shuffle(a, b, 1, 3);
    case FpOp.PACKSSWB:
      return i8x16.narrow_i16x8_s(a, b);
    case FpOp.PACKUSWB:
      return i8x16.narrow_i16x8_u(a, b);
    case FpOp.PACKSSDW:
      return i16x8.narrow_i32x4_s(a, b);
    case FpOp.PCMPGTB:
      return i8x16.gt_s(a, b);
    case FpOp.PCMPGTW:
      return i16x8.gt_s(a, b);
    case FpOp.PCMPGTD:
      return i32x4.gt_s(a, b);
    case FpOp.PCMPEQB:
      return i8x16.eq(a, b);
    case FpOp.PCMPEQW:
      return i16x8.eq(a, b);
    case FpOp.PCMPEQD:
      return i32x4.eq(a, b);
    case FpOp.PADDB:
      return i8x16.add(a, b);
    case FpOp.PADDW:
      return i16x8.add(a, b);
    case FpOp.PADDD:
      return i32x4.add(a, b);
    case FpOp.PADDQ:
      return i64x2.add(a, b);
    case FpOp.PSUBB:
      return i8x16.sub(a, b);
    case FpOp.PSUBW:
      return i16x8.sub(a, b);
    case FpOp.PSUBD:
      return i32x4.sub(a, b);
    case FpOp.PSUBQ:
      return i64x2.sub(a, b);
    case FpOp.PADDSB:
      return i8x16.add_sat_s(a, b);
    case FpOp.PADDSW:
      return i16x8.add_sat_s(a, b);
    case FpOp.PADDUSB:
      return i8x16.add_sat_u(a, b);
    case FpOp.PADDUSW:
      return i16x8.add_sat_u(a, b);
    case FpOp.PSUBSB:
      return i8x16.sub_sat_s(a, b);
    case FpOp.PSUBSW:
      return i16x8.sub_sat_s(a, b);
    case FpOp.PSUBUSB:
      return i8x16.sub_sat_u(a, b);
    case FpOp.PSUBUSW:
      return i16x8.sub_sat_u(a, b);
    case FpOp.PMULLW:
      return i16x8.mul(a, b);
    case FpOp.PMULHW:
      return i16x8.shuffle(
        i32x4.extmul_low_i16x8_s(a, b),
        i32x4.extmul_high_i16x8_s(a, b),
        1, 3, 5, 7, 9, 11, 13, 15,
      );
    case FpOp.PMULHUW:
      return i16x8.shuffle(
        i32x4.extmul_low_i16x8_u(a, b),
        i32x4.extmul_high_i16x8_u(a, b),
        1, 3, 5, 7, 9, 11, 13, 15,
      );
    case FpOp.PMULUDQ:
      return i64x2.extmul_low_i32x4_u(i32x4.shuffle(a, a, 0, 2, 0, 2), i32x4.shuffle(b, b, 0, 2, 0, 2));
    case FpOp.PMADDWD:
      return i32x4.dot_i16x8_s(a, b);
    case FpOp.PSADBW: {
      const d = v128.or(i8x16.sub_sat_u(a, b), i8x16.sub_sat_u(b, a));
      const s = i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(d));
      return v128.and(i64x2.add(s, i64x2.shr_u(s, 32)), i64x2.splat(0xffffffff));
    }
    case FpOp.PAVGB:
      return i8x16.avgr_u(a, b);
    case FpOp.PAVGW:
      return i16x8.avgr_u(a, b);
    case FpOp.PMINUB:
      return i8x16.min_u(a, b);
    case FpOp.PMINSW:
      return i16x8.min_s(a, b);
    case FpOp.PMAXUB:
      return i8x16.max_u(a, b);
    case FpOp.PMAXSW:
      return i16x8.max_s(a, b);
    case FpOp.PAND:
      return v128.and(a, b);
    case FpOp.PANDN:
      return v128.andnot(b, a);
    case FpOp.POR:
      return v128.or(a, b);
    case FpOp.PXOR:
      return v128.xor(a, b);
    case FpOp.PSLLDQI:
    case FpOp.PSRLDQI:
      return shiftBytes(a, op == FpOp.PSLLDQI, imm & 0xff);
    default:
      if (op >= FpOp.PSLLWI) return shift(op - FpOp.PSLLWI, a, <u64>(imm & 0xff));
      return shift(op - FpOp.PSLLW, a, <u64>i64x2.extract_lane(b, 0));
  }
}

function shiftBytes(a: v128, left: bool, count: i32): v128 {
  if (count > 15) return i64x2.splat(0);
  const lo = <u64>i64x2.extract_lane(a, 0), hi = <u64>i64x2.extract_lane(a, 1);
  const n = <u64>((count & 7) << 3);
  let l: u64, h: u64;
  if (left) {
    const from = count & 8 ? <u64>0 : lo;
    h = count & 8 ? lo : hi;
    h = n ? (h << n) | (from >> (64 - n)) : h;
    l = from << n;
  } else {
    const from = count & 8 ? <u64>0 : hi;
    l = count & 8 ? hi : lo;
    l = n ? (l >> n) | (from << (64 - n)) : l;
    h = from >> n;
  }
  return i64x2.replace_lane(i64x2.splat(<i64>l), 1, <i64>h);
}

// @ts-ignore: decorator
@inline
function word(p: usize, i: i32): u64 {
  return <u64>load<u16>(p + (<usize>(i & 3) << 1));
}

/** Selects four words of the 8 bytes at p according to imm. */
export function shuffleWords(p: usize, imm: i32): u64 {
  return word(p, imm) | (word(p, imm >> 2) << 16) | (word(p, imm >> 4) << 32) | (word(p, imm >> 6) << 48);
}

// @ts-ignore: decorator
@inline
function dword(p: usize, i: i32): u64 {
  return <u64>load<u32>(p + (<usize>(i & 3) << 2));
}

/** For the shuffles: selects two dwords from a and two from b according to imm, and stores them at d. */
export function shuffleDwords(d: usize, a: usize, b: usize, imm: i32): void {
  const lo = dword(a, imm) | (dword(a, imm >> 2) << 32);
  const hi = dword(b, imm >> 4) | (dword(b, imm >> 6) << 32);
  store<u64>(d, lo);
  store<u64>(d, hi, 8);
}

/** Replaces bytes of `memory` by those of `data` where the top bit of the mask's byte is set. */
export function blend(memory: v128, data: v128, mask: v128): v128 {
  return v128.bitselect(data, memory, i8x16.shr_s(mask, 7));
}

export function low(a: v128): u64 {
  return <u64>i64x2.extract_lane(lanes8(a, a), 0);
}
