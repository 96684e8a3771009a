// RCPSS, RSQRTSS and their packed forms: estimates with a relative error below 1.5 * 2^-12. Processors differ in
// their estimates; ours is the exact value rounded to 12 bits. These instructions raise no exceptions, and read and
// return denormals as zero. SDM volume 2, RCPPS and RSQRTPS.

// Rounds a positive normal double to a float of 12 significant bits; zero if it would be denormal.
function short(x: f64): u32 {
  const bits = reinterpret<u32>(<f32>x);
  if (bits < 0x00800000) return 0;
  return (bits + 0x7ff + ((bits >> 12) & 1)) & 0xfffff000;
}

export function reciprocal(bits: u32): u32 {
  const sign = bits & 0x80000000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return bits | 0x00400000;
  if (magnitude == 0x7f800000) return sign;
  if (magnitude < 0x00800000) return sign | 0x7f800000;
  return sign | short(1.0 / <f64>reinterpret<f32>(magnitude));
}

export function reciprocalRoot(bits: u32): u32 {
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return bits | 0x00400000;
  if (magnitude < 0x00800000) return (bits & 0x80000000) | 0x7f800000;
  if (bits >> 31) return 0xffc00000;
  if (magnitude == 0x7f800000) return 0;
  return short(1.0 / Math.sqrt(<f64>reinterpret<f32>(magnitude)));
}
