// SSE and SSE2 floating-point instructions. All elements of an instruction share one decision about exceptions.
//
// Nothing is written before all elements are computed and it is known that no exception is unmasked. SDM volume 1,
// 11.5: an unmasked exception that is detected before rounding (IE, DE, ZE) hides those that are detected after it.
import { f32ToF64, f32ToInt, f64ToF32, f64ToInt, intToFloat } from './convert';
import { enterMmx } from './mmx-state';
import { FpOp } from './ops';
import { reciprocal, reciprocalRoot } from './estimate';
import { Env, F32, F64 } from './soft';
import { add32, add64, begin, compare, div32, div64, minmax, mul32, mul64, order, sqrt, sub32, sub64 } from './sse-number';
import { EFLAGS, FCW, FSW, MXCSR, ST, VECTOR_MF, VECTOR_XM, XMM } from './state';

// The result while it is being computed.
class Out {
  static lo: u64 = 0;
  static hi: u64 = 0;
}

/** Adds the exceptions of the operation to MXCSR. Returns true if an unmasked one has to be raised. */
function finish(cpu: usize): bool {
  let flags = Env.flags;
  if (flags == 0) return false;
  const unmasked = flags & ~Env.masks;
  if (unmasked & 7) flags &= 7;
  store<u32>(cpu + MXCSR, load<u32>(cpu + MXCSR) | flags);
  return unmasked != 0;
}

function op32(kind: i32, a: u64, b: u64, imm: i32): u64 {
  switch (kind) {
    case 0:
      return add32(a, b);
    case 1:
      return mul32(a, b);
    case 2:
      return sub32(a, b);
    case 3:
      return minmax(F32, a, b, false);
    case 4:
      return div32(a, b);
    case 5:
      return minmax(F32, a, b, true);
    case 6:
      return sqrt(F32, b);
    default:
      return compare(F32, a, b, imm) & 0xffffffff;
  }
}

function op64(kind: i32, a: u64, b: u64, imm: i32): u64 {
  switch (kind) {
    case 0:
      return add64(a, b);
    case 1:
      return mul64(a, b);
    case 2:
      return sub64(a, b);
    case 3:
      return minmax(F64, a, b, false);
    case 4:
      return div64(a, b);
    case 5:
      return minmax(F64, a, b, true);
    case 6:
      return sqrt(F64, b);
    default:
      return compare(F64, a, b, imm);
  }
}

function arithmetic(cpu: usize, op: i32, d: usize, src: usize, imm: i32): i32 {
  begin(load<u32>(cpu + MXCSR));
  const kind = (op - FpOp.ADDPS) >> 2;
  const fmt = op & 3;
  if (fmt == 3) {
    const r = op64(kind, load<u64>(d), load<u64>(src), imm);
    if (Env.flags && finish(cpu)) return VECTOR_XM;
    store<u64>(d, r);
    return 0;
  }
  if (fmt == 2) {
    const r = op32(kind, load<u32>(d), load<u32>(src), imm);
    if (Env.flags && finish(cpu)) return VECTOR_XM;
    store<u32>(d, <u32>r);
    return 0;
  }
  if (fmt == 1) {
    const lo = op64(kind, load<u64>(d), load<u64>(src), imm);
    const hi = op64(kind, load<u64>(d, 8), load<u64>(src, 8), imm);
    if (Env.flags && finish(cpu)) return VECTOR_XM;
    store<u64>(d, lo);
    store<u64>(d, hi, 8);
    return 0;
  }
  const r0 = op32(kind, load<u32>(d), load<u32>(src), imm);
  const r1 = op32(kind, load<u32>(d, 4), load<u32>(src, 4), imm);
  const r2 = op32(kind, load<u32>(d, 8), load<u32>(src, 8), imm);
  const r3 = op32(kind, load<u32>(d, 12), load<u32>(src, 12), imm);
  if (Env.flags && finish(cpu)) return VECTOR_XM;
  store<u64>(d, r0 | (r1 << 32));
  store<u64>(d, r2 | (r3 << 32), 8);
  return 0;
}

// Sets CF, PF and ZF according to a comparison. OF, SF and AF are cleared.
export function setCompareFlags(cpu: usize, o: i32): void {
  const flags: u32 = o == 2 ? 0x45 : o == 0 ? 0x40 : o < 0 ? 1 : 0;
  store<u32>(cpu + EFLAGS, (load<u32>(cpu + EFLAGS) & ~0x8d5) | flags);
}

function pair(lo: i64, hi: i64): u64 {
  return (<u64>lo & 0xffffffff) | ((<u64>hi) << 32);
}

export function sseFloat(cpu: usize, op: i32, dst: i32, src: usize, imm: i32): i32 {
  const d = cpu + XMM + ((<usize>dst) << 4);
  if (op < FpOp.RCPPS) return arithmetic(cpu, op, d, src, imm);
  begin(load<u32>(cpu + MXCSR));
  switch (op) {
    case FpOp.RCPSS:
      store<u32>(d, reciprocal(load<u32>(src)));
      return 0;
    case FpOp.RSQRTSS:
      store<u32>(d, reciprocalRoot(load<u32>(src)));
      return 0;
    case FpOp.RCPPS:
      for (let i: usize = 0; i < 16; i += 4) store<u32>(d + i, reciprocal(load<u32>(src + i)));
      return 0;
    case FpOp.RSQRTPS:
      for (let i: usize = 0; i < 16; i += 4) store<u32>(d + i, reciprocalRoot(load<u32>(src + i)));
      return 0;
    case FpOp.UCOMISS:
    case FpOp.COMISS:
    case FpOp.UCOMISD:
    case FpOp.COMISD: {
      const single = op == FpOp.UCOMISS || op == FpOp.COMISS;
      const invalid = op == FpOp.COMISS || op == FpOp.COMISD;
      const o = single
        ? order(F32, load<u32>(d), load<u32>(src), invalid)
        : order(F64, load<u64>(d), load<u64>(src), invalid);
      if (finish(cpu)) return VECTOR_XM;
      setCompareFlags(cpu, o);
      return 0;
    }
    case FpOp.CVTPI2PS:
    case FpOp.CVTPI2PD: {
      // With a memory operand these use no MMX register, and the x87 state does not change.
      if (src < cpu + FCW) {
        if (load<u16>(cpu + FSW) & 0x80) return VECTOR_MF;
        enterMmx(cpu);
      }
      const a = <i64>load<i32>(src),
        b = <i64>load<i32>(src, 4);
      if (op == FpOp.CVTPI2PD) {
        store<f64>(d, <f64>a);
        store<f64>(d, <f64>b, 8);
        return 0;
      }
      const r = intToFloat(F32, a) | (intToFloat(F32, b) << 32);
      if (finish(cpu)) return VECTOR_XM;
      store<u64>(d, r);
      return 0;
    }
    case FpOp.CVTTPS2PI:
    case FpOp.CVTPS2PI:
    case FpOp.CVTTPD2PI:
    case FpOp.CVTPD2PI: {
      if (load<u16>(cpu + FSW) & 0x80) return VECTOR_MF;
      const truncate = op == FpOp.CVTTPS2PI || op == FpOp.CVTTPD2PI;
      const r =
        op == FpOp.CVTTPS2PI || op == FpOp.CVTPS2PI
          ? pair(f32ToInt(load<u32>(src), 32, truncate), f32ToInt(load<u32>(src, 4), 32, truncate))
          : pair(f64ToInt(load<u64>(src), 32, truncate), f64ToInt(load<u64>(src, 8), 32, truncate));
      enterMmx(cpu);
      if (finish(cpu)) return VECTOR_XM;
      store<u64>(cpu + ST + ((<usize>dst) << 4), r);
      store<u16>(cpu + ST + ((<usize>dst) << 4), 0xffff, 8);
      return 0;
    }
    case FpOp.CVTSI2SS32:
    case FpOp.CVTSI2SS64: {
      const r = intToFloat(F32, op == FpOp.CVTSI2SS32 ? <i64>load<i32>(src) : load<i64>(src));
      if (finish(cpu)) return VECTOR_XM;
      store<u32>(d, <u32>r);
      return 0;
    }
    case FpOp.CVTSI2SD32:
      store<f64>(d, <f64>load<i32>(src));
      return 0;
    case FpOp.CVTSI2SD64: {
      const r = intToFloat(F64, load<i64>(src));
      if (finish(cpu)) return VECTOR_XM;
      store<u64>(d, r);
      return 0;
    }
    case FpOp.CVTTSS2SI32:
    case FpOp.CVTTSS2SI64:
    case FpOp.CVTTSD2SI32:
    case FpOp.CVTTSD2SI64:
    case FpOp.CVTSS2SI32:
    case FpOp.CVTSS2SI64:
    case FpOp.CVTSD2SI32:
    case FpOp.CVTSD2SI64: {
      const n = op - FpOp.CVTTSS2SI32;
      const truncate = n < 4;
      const bits = n & 1 ? 64 : 32;
      const r = n & 2 ? f64ToInt(load<u64>(src), bits, truncate) : f32ToInt(load<u32>(src), bits, truncate);
      if (finish(cpu)) return VECTOR_XM;
      store<u64>(cpu + ((<usize>dst) << 3), n & 1 ? <u64>r : <u64>r & 0xffffffff);
      return 0;
    }
    case FpOp.CVTPS2PD:
      Out.lo = f32ToF64(load<u32>(src));
      Out.hi = f32ToF64(load<u32>(src, 4));
      break;
    case FpOp.CVTPD2PS:
      Out.lo = f64ToF32(load<u64>(src)) | (f64ToF32(load<u64>(src, 8)) << 32);
      Out.hi = 0;
      break;
    case FpOp.CVTSS2SD:
      Out.lo = f32ToF64(load<u32>(src));
      Out.hi = load<u64>(d, 8);
      break;
    case FpOp.CVTSD2SS:
      Out.lo = f64ToF32(load<u64>(src)) | (load<u64>(d) & 0xffffffff00000000);
      Out.hi = load<u64>(d, 8);
      break;
    case FpOp.CVTDQ2PS:
      Out.lo = intToFloat(F32, <i64>load<i32>(src)) | (intToFloat(F32, <i64>load<i32>(src, 4)) << 32);
      Out.hi = intToFloat(F32, <i64>load<i32>(src, 8)) | (intToFloat(F32, <i64>load<i32>(src, 12)) << 32);
      break;
    case FpOp.CVTPS2DQ:
    case FpOp.CVTTPS2DQ: {
      const t = op == FpOp.CVTTPS2DQ;
      Out.lo = pair(f32ToInt(load<u32>(src), 32, t), f32ToInt(load<u32>(src, 4), 32, t));
      Out.hi = pair(f32ToInt(load<u32>(src, 8), 32, t), f32ToInt(load<u32>(src, 12), 32, t));
      break;
    }
    case FpOp.CVTDQ2PD:
      Out.lo = reinterpret<u64>(<f64>load<i32>(src));
      Out.hi = reinterpret<u64>(<f64>load<i32>(src, 4));
      break;
    case FpOp.CVTPD2DQ:
    case FpOp.CVTTPD2DQ: {
      const t = op == FpOp.CVTTPD2DQ;
      Out.lo = pair(f64ToInt(load<u64>(src), 32, t), f64ToInt(load<u64>(src, 8), 32, t));
      Out.hi = 0;
      break;
    }
    default:
      return 6;
  }
  if (finish(cpu)) return VECTOR_XM;
  store<u64>(d, Out.lo);
  store<u64>(d, Out.hi, 8);
  return 0;
}
