// The x87 environment: control, status and tag words, and the pointers. FNSTENV, FNSAVE, FXSAVE and their
// inverses use the layouts of 64-bit mode. SDM volume 1, 8.1.8 to 8.1.11 and 10.5.
import { ES, FCS, FCW, FDP, FDS, FIP, FOP, FSW, FTW, MXCSR, MXCSR_MASK, NOW_DP, NOW_IP, NOW_SELECTORS, ST, VECTOR_GP, XMM } from './state';
import { CODE_KIND, KIND_LONG } from '../layout';
import { st } from './x87-stack';

export function initialise(cpu: usize): void {
  store<u16>(cpu + FCW, 0x37f);
  store<u16>(cpu + FSW, 0);
  store<u8>(cpu + FTW, 0);
  store<u16>(cpu + FOP, 0);
  store<u64>(cpu + FIP, 0);
  store<u64>(cpu + FDP, 0);
  store<u32>(cpu + FCS, 0);
}

/** Remembers the last instruction, the address of its operand (0 if it has none) and its opcode. */
export function remember(cpu: usize, fop: i32, memory: bool): void {
  store<u16>(cpu + FOP, <u16>(fop & 0x7ff));
  store<u64>(cpu + FIP, load<u64>(cpu + NOW_IP));
  store<u64>(cpu + FDP, memory ? load<u64>(cpu + NOW_DP) : 0);
  const selectors = load<u32>(cpu + NOW_SELECTORS);
  store<u32>(cpu + FCS, memory ? selectors : selectors & 0xffff);
}

/** Sets the pending bit if an exception is flagged and not masked; clears it otherwise. */
export function judge(cpu: usize): void {
  let fsw = <u32>load<u16>(cpu + FSW) & ~ES;
  if (fsw & ~(<u32>load<u16>(cpu + FCW)) & 0x3f) fsw |= ES;
  store<u16>(cpu + FSW, <u16>fsw);
}

export function loadControl(cpu: usize, value: u32): void {
  store<u16>(cpu + FCW, <u16>((value & 0x1f3f) | 0x40));
  judge(cpu);
}

/**
 * Returns the full tag word. It has two bits for each physical register: 0 valid, 1 zero, 2 special, 3 empty.
 */
function tags(cpu: usize): u32 {
  let word: u32 = 0;
  const valid = <u32>load<u8>(cpu + FTW);
  for (let i: u32 = 0; i < 8; i++) {
    let tag: u32 = 3;
    if ((valid >> i) & 1) {
      const p = cpu + ST + ((<usize>i) << 4);
      const se = <u32>load<u16>(p, 8),
        sig = load<u64>(p);
      const e = se & 0x7fff;
      tag = e == 0 && sig == 0 ? 1 : e == 0 || e == 0x7fff || !(sig >> 63) ? 2 : 0;
    }
    word |= tag << (i << 1);
  }
  return word;
}

/** Stores the environment: 28 bytes, or 14 in the 16-bit layout. Returns its size. */
export function saveEnvironment(cpu: usize, p: usize, short: bool): usize {
  const fcw = load<u16>(cpu + FCW),
    fsw = load<u16>(cpu + FSW);
  const fip = load<u64>(cpu + FIP),
    fdp = load<u64>(cpu + FDP);
  if (short) {
    store<u16>(p, fcw);
    store<u16>(p, fsw, 2);
    store<u16>(p, <u16>tags(cpu), 4);
    store<u16>(p, <u16>fip, 6);
    store<u16>(p, load<u16>(cpu + FCS), 8);
    store<u16>(p, <u16>fdp, 10);
    store<u16>(p, load<u16>(cpu + FDS), 12);
    return 14;
  }
  store<u32>(p, 0xffff0000 | <u32>fcw);
  store<u32>(p, 0xffff0000 | <u32>fsw, 4);
  store<u32>(p, 0xffff0000 | tags(cpu), 8);
  store<u32>(p, <u32>fip, 12);
  store<u32>(p, ((<u32>load<u16>(cpu + FOP)) << 16) | <u32>load<u16>(cpu + FCS), 16);
  store<u32>(p, <u32>fdp, 20);
  store<u32>(p, 0xffff0000 | <u32>load<u16>(cpu + FDS), 24);
  return 28;
}

export function loadEnvironment(cpu: usize, p: usize, short: bool): usize {
  const step: usize = short ? 2 : 4;
  store<u16>(cpu + FCW, (load<u16>(p) & 0x1f3f) | 0x40);
  store<u16>(cpu + FSW, load<u16>(p + step));
  const word = <u32>load<u16>(p + 2 * step);
  let valid: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) if (((word >> (i << 1)) & 3) != 3) valid |= 1 << i;
  store<u8>(cpu + FTW, <u8>valid);
  if (short) {
    store<u64>(cpu + FIP, <u64>load<u16>(p, 6));
    store<u16>(cpu + FCS, load<u16>(p, 8));
    store<u64>(cpu + FDP, <u64>load<u16>(p, 10));
    store<u16>(cpu + FDS, load<u16>(p, 12));
    store<u16>(cpu + FOP, 0);
  } else {
    store<u64>(cpu + FIP, <u64>load<u32>(p, 12));
    store<u16>(cpu + FCS, load<u16>(p, 16));
    store<u16>(cpu + FOP, load<u16>(p, 18) & 0x7ff);
    store<u64>(cpu + FDP, <u64>load<u32>(p, 20));
    store<u16>(cpu + FDS, load<u16>(p, 24));
  }
  judge(cpu);
  return short ? 14 : 28;
}

export function saveAll(cpu: usize, p: usize, short: bool): void {
  p += saveEnvironment(cpu, p, short);
  for (let i = 0; i < 8; i++) {
    const r = st(cpu, i);
    store<u64>(p, load<u64>(r));
    store<u16>(p, load<u16>(r, 8), 8);
    p += 10;
  }
}

export function loadAll(cpu: usize, p: usize, short: bool): void {
  p += loadEnvironment(cpu, p, short);
  for (let i = 0; i < 8; i++) {
    const r = st(cpu, i);
    store<u64>(r, load<u64>(p));
    store<u16>(r, load<u16>(p, 8), 8);
    p += 10;
  }
}

/** Code in compatibility mode has eight vector registers only. */
@inline
function vectorBytes(cpu: usize): usize {
  return load<u32>(cpu, CODE_KIND) == KIND_LONG ? 256 : 128;
}

/**
 * FXSAVE: stores 512 bytes at p, with 64-bit pointers if `wide` (REX.W). As on AMD's processors, the pointers
 * are stored only while an exception is pending.
 */
export function fxsaveTo(cpu: usize, p: usize, wide: bool): void {
  memory.fill(p, 0, 512);
  const fsw = load<u16>(cpu + FSW);
  store<u16>(p, load<u16>(cpu + FCW));
  store<u16>(p, fsw, 2);
  store<u8>(p, load<u8>(cpu + FTW), 4);
  if (fsw & 0x80) {
    store<u16>(p, load<u16>(cpu + FOP), 6);
    if (wide) {
      store<u64>(p, load<u64>(cpu + FIP), 8);
      store<u64>(p, load<u64>(cpu + FDP), 16);
    } else {
      store<u32>(p, <u32>load<u64>(cpu + FIP), 8);
      store<u16>(p, load<u16>(cpu + FCS), 12);
      store<u32>(p, <u32>load<u64>(cpu + FDP), 16);
      store<u16>(p, load<u16>(cpu + FDS), 20);
    }
  }
  store<u32>(p, load<u32>(cpu + MXCSR), 24);
  store<u32>(p, MXCSR_MASK, 28);
  for (let i = 0; i < 8; i++) {
    const r = st(cpu, i),
      q = p + 32 + ((<usize>i) << 4);
    store<u64>(q, load<u64>(r));
    store<u16>(q, load<u16>(r, 8), 8);
  }
  memory.copy(p + 160, cpu + XMM, vectorBytes(cpu));
}

/** FXRSTOR. Reserved bits of MXCSR that are set raise #GP, and nothing is changed then. */
export function fxrstorFrom(cpu: usize, p: usize, wide: bool): i32 {
  const mxcsr = load<u32>(p, 24);
  if (mxcsr & ~MXCSR_MASK) return VECTOR_GP;
  store<u32>(cpu + MXCSR, mxcsr);
  store<u16>(cpu + FCW, (load<u16>(p) & 0x1f3f) | 0x40);
  store<u16>(cpu + FSW, load<u16>(p, 2));
  judge(cpu);
  store<u8>(cpu + FTW, load<u8>(p, 4));
  store<u16>(cpu + FOP, load<u16>(p, 6) & 0x7ff);
  store<u64>(cpu + FIP, wide ? load<u64>(p, 8) : <u64>load<u32>(p, 8));
  store<u64>(cpu + FDP, wide ? load<u64>(p, 16) : <u64>load<u32>(p, 16));
  store<u16>(cpu + FCS, wide ? 0 : load<u16>(p, 12));
  store<u16>(cpu + FDS, wide ? 0 : load<u16>(p, 20));
  for (let i = 0; i < 8; i++) {
    const r = st(cpu, i),
      q = p + 32 + ((<usize>i) << 4);
    store<u64>(r, load<u64>(q));
    store<u16>(r, load<u16>(q, 8), 8);
  }
  memory.copy(cpu + XMM, p + 160, vectorBytes(cpu));
  return 0;
}
