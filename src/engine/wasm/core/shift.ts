// Shifts and rotates of any operand size. Undefined flags have the values that present processors leave in them: OF
// of a shift by more than 1 is that of its last step. SDM vol. 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD.
import { carry, CF, flagsShift, getFlags, OF, setFlags } from './flags';
import { signedSized } from './operands';
import { G } from './ops';

@inline
function maskOf(log: u32): u64 {
  return log == 3 ? ~(<u64>0) : (<u64>1 << (8 << log)) - 1;
}

/** Returns the sign-extended result and sets the flags. `count` is the count of the instruction (cl or immediate). */
export function shiftOrRotate(cpu: usize, kind: i32, a: i64, count: u32, log: u32): i64 {
  const bits: u32 = 8 << log;
  let n: u32 = count & (log == 3 ? 63 : 31);
  if (n == 0) return a;
  const mask = maskOf(log);
  const v = <u64>a & mask;
  let r: u64;
  let c: u64;
  if (kind <= G.RCR) {
    if (kind == G.ROL || kind == G.ROR) {
      const m: u64 = n & (bits - 1);
      const left = kind == G.ROL ? m : (bits - m) & (bits - 1);
      r = left == 0 ? v : ((v << left) | (v >> (bits - left))) & mask;
      c = kind == G.ROL ? r & 1 : (r >> (bits - 1)) & 1;
    } else {
      c = carry(cpu);
      r = v;
      if (log < 2) n %= bits + 1;
      for (; n != 0; n--) {
        if (kind == G.RCL) {
          const out = (r >> (bits - 1)) & 1;
          r = ((r << 1) | c) & mask;
          c = out;
        } else {
          const out = r & 1;
          r = (r >> 1) | (c << (bits - 1));
          c = out;
        }
      }
    }
    const top = (r >> (bits - 1)) & 1;
    const overflow = kind == G.ROL || kind == G.RCL ? top ^ c : top ^ ((r >> (bits - 2)) & 1);
    setFlags(cpu, (getFlags(cpu) & ~(CF | OF)) | <u32>c | <u32>(overflow << 11));
    return signedSized(<i64>r, log);
  }
  let overflow: u64;
  if (kind == G.SHL || kind == G.SAL) {
    r = (v << n) & mask;
    c = n <= bits ? (v >> (bits - n)) & 1 : 0;
    overflow = ((r >> (bits - 1)) & 1) ^ c;
  } else if (kind == G.SHR) {
    r = n < bits ? v >> n : 0;
    c = n <= bits ? (v >> (n - 1)) & 1 : 0;
    overflow = ((r << 1 ^ r) >> (bits - 1)) & 1;
  } else {
    r = <u64>(a >> min<u64>(n, 63)) & mask;
    c = <u64>(a >> min<u64>(n - 1, 63)) & 1;
    overflow = 0;
  }
  const result = signedSized(<i64>r, log);
  flagsShift(cpu, result, <u32>c | <u32>(overflow << 11), 64 - bits);
  return result;
}

/** shld (right false), shrd (right true) of a with bits from b. */
export function doubleShift(cpu: usize, right: bool, a: i64, b: i64, count: u32, log: u32): i64 {
  const bits: u64 = 8 << log;
  let n: u64 = count & (log == 3 ? 63 : 31);
  if (n == 0) return a;
  const mask = maskOf(log);
  const v = <u64>a & mask;
  let w = <u64>b & mask;
  let r: u64;
  let c: u64;
  if (log == 1) {
    // The processor shifts a:b:a, so counts above 16 shift the first operand in again.
    const wide = right ? (v << 32) | (w << 16) | v : (v << 32) | (w << 16) | v;
    if (right) {
      r = (wide >> n) & mask;
      c = (wide >> (n - 1)) & 1;
    } else {
      r = (wide >> (32 - n)) & mask;
      c = (wide >> (48 - n)) & 1;
    }
  } else if (right) {
    r = ((v >> n) | (w << (bits - n))) & mask;
    c = (v >> (n - 1)) & 1;
  } else {
    r = ((v << n) | (w >> (bits - n))) & mask;
    c = (v >> (bits - n)) & 1;
  }
  const before = right ? (r >> (bits - 2)) & 1 : c;
  const overflow = ((r >> (bits - 1)) & 1) ^ before;
  const result = signedSized(<i64>r, log);
  flagsShift(cpu, result, <u32>c | <u32>(overflow << 11), <i32>(64 - bits));
  return result;
}
