// Multiplication of 64 by 64 bits to 128 bits, and division of 128 by 64 bits, composed of 32-bit steps because
// WebAssembly has neither. Knuth, The Art of Computer Programming vol. 2, 4.3.1, algorithms M and D.

/** The high half of the last multiplication, or the remainder of the last division. */
export let high64: u64 = 0;

export function multiply(a: u64, b: u64): u64 {
  const a0 = a & 0xffff_ffff;
  const a1 = a >> 32;
  const b0 = b & 0xffff_ffff;
  const b1 = b >> 32;
  const low = a0 * b0;
  const middle = a1 * b0 + (low >> 32);
  const other = a0 * b1 + (middle & 0xffff_ffff);
  high64 = a1 * b1 + (middle >> 32) + (other >> 32);
  return a * b;
}

export function multiplySigned(a: i64, b: i64): i64 {
  const low = multiply(<u64>a, <u64>b);
  if (a < 0) high64 -= <u64>b;
  if (b < 0) high64 -= <u64>a;
  return <i64>low;
}

/** Divides (high:low) by divisor, where high < divisor. The remainder goes to high64. */
export function divide(high: u64, low: u64, divisor: u64): u64 {
  if (high == 0) {
    high64 = low % divisor;
    return low / divisor;
  }
  const shift = clz<u64>(divisor);
  const d = divisor << shift;
  const d1 = d >> 32;
  const d0 = d & 0xffff_ffff;
  let n = shift != 0 ? (high << shift) | (low >> (64 - shift)) : high;
  const l = low << shift;
  let quotient: u64 = 0;
  for (let half = 32; half >= 0; half -= 32) {
    const next = (l >> half) & 0xffff_ffff;
    let q = n / d1;
    let r = n % d1;
    while (q >> 32 != 0 || q * d0 > ((r << 32) | next)) {
      q--;
      r += d1;
      if (r >> 32 != 0) break;
    }
    n = ((n << 32) | next) - q * d;
    quotient = (quotient << 32) | q;
  }
  high64 = n >> shift;
  return quotient;
}
