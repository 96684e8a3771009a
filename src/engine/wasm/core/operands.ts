// Register and memory operands of decoded operations. A register field is a byte offset in the vCPU's state, so ah is
// 1, and a missing base or index is the slot that is always zero.
import { O_BASE, O_DISP, O_INDEX, O_R1, O_R2, O_SCALE, SCALE_ADDR32 } from './layout';
import { narrowAddress } from './segment';

/** Operand values are sign-extended from T. */
@inline
export function signed<T>(v: i64): i64 {
  if (sizeof<T>() == 8) return v;
  if (sizeof<T>() == 4) return <i64><i32>v;
  if (sizeof<T>() == 2) return <i64><i16>v;
  return <i64><i8>v;
}

@inline
export function get1<T>(cpu: usize, op: usize): i64 {
  return <i64>load<T>(cpu + load<u8>(op, O_R1));
}

@inline
export function get2<T>(cpu: usize, op: usize): i64 {
  return <i64>load<T>(cpu + load<u8>(op, O_R2));
}

/** Writing 32 bits clears the upper half. */
@inline
export function set1<T>(cpu: usize, op: usize, v: i64): void {
  const at = cpu + load<u8>(op, O_R1);
  if (sizeof<T>() == 8) store<i64>(at, v);
  else if (sizeof<T>() == 4) store<u64>(at, <u64><u32>v);
  else if (sizeof<T>() == 2) store<u16>(at, <u16>v);
  else store<u8>(at, <u8>v);
}

export function getSized(cpu: usize, offset: usize, log: u32): i64 {
  const at = cpu + offset;
  return log == 3 ? load<i64>(at) : log == 2 ? <i64>load<i32>(at) : log == 1 ? <i64>load<i16>(at) : <i64>load<i8>(at);
}

export function setSized(cpu: usize, offset: usize, v: i64, log: u32): void {
  const at = cpu + offset;
  if (log == 3) store<i64>(at, v);
  else if (log == 2) store<u64>(at, <u64><u32>v);
  else if (log == 1) store<u16>(at, <u16>v);
  else store<u8>(at, <u8>v);
}

export function signedSized(v: i64, log: u32): i64 {
  const shift: i64 = 64 - (8 << log);
  return (v << shift) >> shift;
}

/** The address [base + disp] without a segment base. */
@inline
export function simpleAddress(cpu: usize, op: usize): u64 {
  return load<u64>(cpu + load<u8>(op, O_BASE)) + <u64><i64>load<i32>(op, O_DISP);
}

/** The address [base + index * scale + disp], with segment base and address size. */
@inline
export function address(cpu: usize, op: usize): u64 {
  const s = load<u8>(op, O_SCALE);
  let va =
    load<u64>(cpu + load<u8>(op, O_BASE)) +
    (load<u64>(cpu + load<u8>(op, O_INDEX)) << (s & 3)) +
    <u64><i64>load<i32>(op, O_DISP);
  if (s & SCALE_ADDR32) return narrowAddress(cpu, op, va, s);
  return va + load<u64>(cpu + (s & 0xf8));
}

/** The same address plus `bytes`. */
export function addressBeyond(cpu: usize, op: usize, bytes: u64): u64 {
  const s = load<u8>(op, O_SCALE);
  const va =
    load<u64>(cpu + load<u8>(op, O_BASE)) +
    (load<u64>(cpu + load<u8>(op, O_INDEX)) << (s & 3)) +
    <u64><i64>load<i32>(op, O_DISP) + bytes;
  if (s & SCALE_ADDR32) return narrowAddress(cpu, op, va, s);
  return va + load<u64>(cpu + (s & 0xf8));
}
