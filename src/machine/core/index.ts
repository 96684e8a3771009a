// Insurance engine: generic interpreter of decoded operations.
import { fpCommit, fpExec } from "./fp/index";
export { fxsave, fxrstor, fninit } from "./fp/index";
@external("env", "decode") declare function decodeBlock(pa: u32, va: u64): u32;
@external("env", "now") declare function hostNow(): f64;
const CPU: usize = 0x10000; const CPU_SIZE: usize = 0x1000;
const TLB: usize = 0x20000; // per vcpu 64K: kernel 1024*32, user 1024*32
const JC: usize = 0xA0000; // per vcpu 64K: 4096*16
let META: usize = 0; let FRAMES: usize = 0; let NFRAMES: u32 = 0; let MFNBASE: u64 = 0x100000; let XENSLOTS: usize = 0;
let DIRTY: usize = 0; let CODE: usize = 0;
let dirtyOn: bool = false;
let cpu: usize = 0; let tlb: usize = 0; let gen: u64 = 0; let jc: usize = 0; let jgen: u64 = 1; let pgen: u64 = 1;
const PH: usize = 0x120000; // blocks by physical address, 16384 * 16
let fault: bool = false; let smc: bool = false;
export function init(meta: u32, frames: u32, n: u32, xs: u32): void { META = meta; DIRTY = meta; CODE = meta + ((n + 15) & ~15); FRAMES = frames; NFRAMES = n; XENSLOTS = xs; }
@inline function R(i: usize): u64 { return load<u64>(cpu + i); }
@inline function W(i: usize, v: u64): void { store<u64>(cpu + i, v); }
// ---- MMU
function setFault(code: u32, va: u64): i32 { store<u32>(cpu + 0x180, code); store<u64>(cpu + 0x188, va); return -1; }
function frameLin(mfn: u64): i32 { const i = mfn - MFNBASE; if (i >= <u64>NFRAMES) return -1; return <i32>(FRAMES + (<usize>i << 12)); }
export function dropCode(frame: u32): void { // frame index
  if (load<u8>(CODE + frame) != 0) { store<u8>(CODE + frame, 0); jgen++; pgen++; smc = true; dropped(frame); }
}
@external("env", "dropped") declare function dropped(frame: u32): void;
export function markWrite(lin: u32): void { const f = (lin - <u32>FRAMES) >> 12; store<u8>(DIRTY + f, 1); dropCode(f); }
// intent bits: 0 read 1 write 2 exec; user flag
function walk(va: u64, intent: u32, user: bool): i32 {
  const uerr: u32 = user ? 4 : 0; const werr: u32 = (intent & 1) << 1; const ierr: u32 = (intent & 2) << 3;
  const sx = <i64>va >> 47; if (sx != 0 && sx != -1) { return setFault(0x10000, va); }
  let mfn = user ? load<u64>(cpu + 0x108) : load<u64>(cpu + 0x100);
  let nx = false, rw = true, us = true;
  let e0: usize = 0, e1: usize = 0, e2: usize = 0, e3: usize = 0;
  let pe: u64 = 0; let base: i32 = 0; let off: u64 = 0; let last: usize = 0;
  // level 4
  base = frameLin(mfn); if (base == -1) return setFault(werr | uerr | ierr | 9, va);
  const i4 = (va >> 39) & 511;
  e0 = (i4 >= 256 && i4 < 272) ? XENSLOTS + <usize>((i4 - 256) << 3) : <usize>base + <usize>(i4 << 3);
  pe = load<u64>(e0); if (!(pe & 1)) return setFault(werr | uerr | ierr, va);
  nx = nx || (pe >> 63) != 0; rw = rw && (pe & 2) != 0; us = us && (pe & 4) != 0;
  if (pe & 0x80) return setFault(werr | uerr | ierr | 9, va);
  base = frameLin((pe >> 12) & 0xffffffffff); if (base == -1) return setFault(werr | uerr | ierr | 9, va);
  e1 = <usize>base + <usize>(((va >> 30) & 511) << 3); pe = load<u64>(e1); if (!(pe & 1)) return setFault(werr | uerr | ierr, va);
  nx = nx || (pe >> 63) != 0; rw = rw && (pe & 2) != 0; us = us && (pe & 4) != 0;
  let phys: u64 = 0; last = e1;
  if (pe & 0x80) { phys = ((pe >> 12) & 0xffffffffff & ~0x3ffff) + ((va >> 12) & 0x3ffff); }
  else {
    base = frameLin((pe >> 12) & 0xffffffffff); if (base == -1) return setFault(werr | uerr | ierr | 9, va);
    e2 = <usize>base + <usize>(((va >> 21) & 511) << 3); pe = load<u64>(e2); if (!(pe & 1)) return setFault(werr | uerr | ierr, va);
    nx = nx || (pe >> 63) != 0; rw = rw && (pe & 2) != 0; us = us && (pe & 4) != 0; last = e2;
    if (pe & 0x80) { phys = ((pe >> 12) & 0xffffffffff & ~0x1ff) + ((va >> 12) & 0x1ff); }
    else {
      base = frameLin((pe >> 12) & 0xffffffffff); if (base == -1) return setFault(werr | uerr | ierr | 9, va);
      e3 = <usize>base + <usize>(((va >> 12) & 511) << 3); pe = load<u64>(e3); if (!(pe & 1)) return setFault(werr | uerr | ierr, va);
      nx = nx || (pe >> 63) != 0; rw = rw && (pe & 2) != 0; us = us && (pe & 4) != 0; last = e3;
      phys = (pe >> 12) & 0xffffffffff;
    }
  }
  if ((user && !us) || ((intent & 1) != 0 && !rw) || ((intent & 2) != 0 && nx)) return setFault(1 | werr | uerr | ierr, va);
  const lin = frameLin(phys); if (lin == -1) return setFault(werr | uerr | ierr | 9, va);
  // A/D
  setBits(e0, 0x20); if (e1 != last) setBits(e1, 0x20); if (e2 != 0 && e2 != last) setBits(e2, 0x20);
  setBits(last, (intent & 1) ? 0x60 : 0x20);
  lastDirty = (load<u64>(last) & 0x40) != 0; lastRw = rw; lastNx = nx;
  return lin;
}
let lastDirty: bool = false; let lastRw: bool = false; let lastNx: bool = false;
function setBits(e: usize, bits: u64): void {
  if (e == 0) return; const v = load<u64>(e); if ((v & bits) == bits) return;
  if (e < FRAMES) return; store<u64>(e, v | bits); markWrite(<u32>e);
}
function fill(va: u64, intent: u32): i32 { // returns page linear or -1; fills TLB
  const user = load<u32>(cpu + 0xC0) != 0;
  const lin = walk(va, intent, user); if (lin == -1) return -1;
  const e = tlb + (<usize>((va >> 12) & 1023) << 5);
  const tag = (va & ~0xfff) | gen;
  if (load<u64>(e) != tag) store<u64>(e + 8, 0);
  store<u64>(e, tag); store<u32>(e + 16, <u32>lin - <u32>(va & ~0xfff));
  if (intent & 1) {
    const f = (<u32>lin - <u32>FRAMES) >> 12; store<u8>(DIRTY + f, 1);
    if (load<u8>(CODE + f) == 0) store<u64>(e + 8, tag); else { store<u64>(e + 8, 0); dropCode(f); store<u64>(e + 8, tag); }
  }
  return lin;
}
// linear address for an access wholly in one page, or -1
function slow(va: u64, intent: u32): i32 { const l = fill(va, intent); if (l == -1) { fault = true; return -1; } return l + <i32>(va & 0xfff); }
function ldSlow(va: u64, n: u32): u64 { // n bytes
  if ((va & 0xfff) + n <= 4096) { const l = slow(va, 0); if (l == -1) return 0; return n == 1 ? load<u8>(l) : n == 2 ? load<u16>(l) : n == 4 ? load<u32>(l) : load<u64>(l); }
  const a = slow(va, 0); if (a == -1) return 0; const b = slow((va + 4095) & ~0xfff, 0); if (b == -1) return 0;
  const first: u32 = 4096 - <u32>(va & 0xfff); let v: u64 = 0;
  for (let i: u32 = 0; i < n; i++) v |= <u64>load<u8>(i < first ? <u32>a + i : <u32>b + i - first) << (i << 3);
  return v;
}
function stSlow(va: u64, v: u64, n: u32): void {
  if ((va & 0xfff) + n <= 4096) { const l = slow(va, 1); if (l == -1) return; if (n == 1) store<u8>(l, <u8>v); else if (n == 2) store<u16>(l, <u16>v); else if (n == 4) store<u32>(l, <u32>v); else store<u64>(l, v); return; }
  const a = slow(va, 1); if (a == -1) return; const b = slow((va + 4095) & ~0xfff, 1); if (b == -1) return;
  const first: u32 = 4096 - <u32>(va & 0xfff);
  for (let i: u32 = 0; i < n; i++) store<u8>(i < first ? <u32>a + i : <u32>b + i - first, <u8>(v >> (i << 3)));
}
@inline function ld(va: u64, sz: u32): u64 {
  const e = tlb + (<usize>((va >> 12) & 1023) << 5); const n: u32 = 1 << sz;
  if (load<u64>(e) == (((va + n - 1) & ~0xfff) | gen)) { const l = <usize>(<u32>va + load<u32>(e + 16)); return sz == 3 ? load<u64>(l) : sz == 2 ? load<u32>(l) : sz == 0 ? load<u8>(l) : load<u16>(l); }
  return ldSlow(va, n);
}
@inline function st(va: u64, v: u64, sz: u32): void {
  const e = tlb + (<usize>((va >> 12) & 1023) << 5); const n: u32 = 1 << sz;
  if (load<u64>(e + 8) == (((va + n - 1) & ~0xfff) | gen)) { const l = <usize>(<u32>va + load<u32>(e + 16)); if (sz == 3) store<u64>(l, v); else if (sz == 2) store<u32>(l, <u32>v); else if (sz == 0) store<u8>(l, <u8>v); else store<u16>(l, <u16>v); return; }
  stSlow(va, v, n);
}
// linear address of n bytes in one page, by the TLB; -1 if they cross or fault (then fault is set)
function linOf(va: u64, n: u32, intent: u32): i32 {
  const e = tlb + (<usize>((va >> 12) & 1023) << 5);
  if (load<u64>(e + (intent << 3)) == (((va + n - 1) & ~0xfff) | gen)) return <i32>(<u32>va + load<u32>(e + 16));
  if ((va & 0xfff) + n > 4096) return -1;
  return slow(va, intent);
}
function copyIn(va: u64, to: usize, n: u32): void {
  const l = linOf(va, n, 0); if (fault) return;
  if (l != -1) { memory.copy(to, <u32>l, n); return; }
  const a = slow(va, 0); if (a == -1) return; const b = slow((va + 4095) & ~0xfff, 0); if (b == -1) return; const first: u32 = 4096 - <u32>(va & 0xfff);
  memory.copy(to, <u32>a, first); memory.copy(to + first, <u32>b, n - first);
}
function copyOut(va: u64, from: usize, n: u32): void {
  const l = linOf(va, n, 1); if (fault) return;
  if (l != -1) { memory.copy(<u32>l, from, n); return; }
  const a = slow(va, 1); if (a == -1) return; const b = slow((va + 4095) & ~0xfff, 1); if (b == -1) return; const first: u32 = 4096 - <u32>(va & 0xfff);
  memory.copy(<u32>a, from, first); memory.copy(<u32>b, from + first, n - first);
}
function fpOp(op: usize, p: usize, here: u64): void {
  const unit = load<u8>(p + 15); // 0 x87, 1 mmx, 2 sse; bit 7: fwait
  const cr0 = load<u32>(cpu + 0x110);
  if (unit & 0x80) { if ((cr0 & 10) == 10) { excp(7, 0); return; } } else if (cr0 & 8) { excp(7, 0); return; }
  const nl = <u32>load<u16>(p + 2), ns = <u32>load<u16>(p + 4); const bits = load<u8>(p + 14); let va: u64 = 0;
  if (nl | ns) { va = (bits & 4) ? R(56) + (load<u8>(op + 6) & 0xc ? ((load<u8>(op + 6) >> 2 & 3) == 1 ? load<u64>(cpu + 0xE8) : load<u64>(cpu + 0xF0)) : 0) : ea(op); if ((bits & 1) && (va & 15)) { excp(13, 0); return; } }
  if (bits & 2) store<u32>(cpu + 0x3b8, <u32>(getFlags() | 2));
  if ((unit & 0x7f) == 0) { store<u64>(cpu + 0x3a8, here); store<u64>(cpu + 0x3b0, va); }
  if (ns) { if (!probeW(va, ns)) return; }
  if (nl) { copyIn(va, cpu + 0x400, nl); if (fault) return; }
  const r = fpExec(cpu, <i32>load<u16>(p), <i32>load<u8>(p + 12), cpu + <usize>load<u16>(p + 6), load<i32>(p + 8));
  if (r > 0) { excp(<u32>r, 0); return; }
  if (r == 0 && ns) { copyOut(va, cpu + 0x400, ns); fpCommit(cpu, <i32>load<u16>(p)); }
  if (bits & 2) setF(<u64>(load<u32>(cpu + 0x3b8) & 0x8d5));
}
function probeW(va: u64, n: u32): bool { if (linOf(va, n, 1) != -1) return true; if (fault) return false; if (slow(va, 1) == -1) return false; if ((va & 0xfff) + n > 4096 && slow((va + 4095) & ~0xfff, 1) == -1) return false; return true; }
function loadGen(): void { const u = load<u32>(cpu + 0xC0); gen = load<u32>(cpu + 0x178 + (u << 2)); tlb = TLB + ((cpu - CPU) >> 12 << 16) + (u << 15); }
export function flush(c: u32): void { const p = CPU + c * CPU_SIZE; for (let u: usize = 0; u < 2; u++) { let g = load<u32>(p + 0x178 + (u << 2)) + 1; if (g >= 4095) { memory.fill(TLB + (c << 16), 0, 65536); g = 1; } store<u32>(p + 0x178 + (u << 2), g); } jgen++; }
export function invlpg(c: u32, vaf: f64): void { const va = <u64><i64>vaf; for (let u: usize = 0; u < 2; u++) { const e = TLB + (c << 16) + (u << 15) + (<usize>((va >> 12) & 1023) << 5); store<u64>(e, 0); store<u64>(e + 8, 0); } jgen++; }
export function translate(c: u32, vaf: f64, intent: u32): i32 {
  cpu = CPU + c * CPU_SIZE; const va = <u64><i64>vaf; let user = load<u32>(cpu + 0xC0) != 0; if (intent & 4) user = true; if (intent & 8) user = false;
  const lin = walk(va, intent & 3, user); if (lin == -1) return -1; if (intent & 1) markWrite(<u32>lin);
  return lin + <i32>(va & 0xfff);
}
export function dirtyFlush(): void { for (let c: u32 = 0; c < 8; c++) flush(c); }
// ---- flags: 0 explicit (res = bits) 1 add 2 sub 3 logic 4 inc 5 dec
@inline function setCC(k: u32, sz: u32, r: u64, a: u64, b: u64): void { store<u32>(cpu + 0xA0, (k << 2) | sz); store<u64>(cpu + 0xA8, r); store<u64>(cpu + 0xB0, a); store<u64>(cpu + 0xB8, b); }
@inline function mask(sz: u32): u64 { return sz == 3 ? ~(<u64>0) : sz == 2 ? 0xffffffff : sz == 1 ? 0xffff : 0xff; }
@inline function signBit(sz: u32): u64 { return (<u64>1) << ((8 << sz) - 1); }
function getCF(): u64 { const k = load<u32>(cpu + 0xA0) >> 2, sz = load<u32>(cpu + 0xA0) & 3; const r = load<u64>(cpu + 0xA8), a = load<u64>(cpu + 0xB0), b = load<u64>(cpu + 0xB8); const s: u64 = (8 << sz) - 1;
  if (k == 0) return r & 1; if (k == 1) return ((((a & b) | ((a | b) & ~r))) >> s) & 1; if (k == 2) return ((((~a & b) | ((~a | b) & r))) >> s) & 1; if (k == 3) return 0; return b; }
export function getFlags(): u64 { const k = load<u32>(cpu + 0xA0) >> 2, sz = load<u32>(cpu + 0xA0) & 3; const r = load<u64>(cpu + 0xA8), a = load<u64>(cpu + 0xB0), b = load<u64>(cpu + 0xB8);
  if (k == 0) return r; const sb = signBit(sz); let f: u64 = getCF();
  if ((popcnt<u32>(<u32>(r & 0xff)) & 1) == 0) f |= 4; if (r == 0) f |= 0x40; if (r & sb) f |= 0x80;
  if (k == 1) { f |= (a ^ b ^ r) & 0x10; if ((a ^ r) & (b ^ r) & sb) f |= 0x800; }
  else if (k == 2) { f |= (a ^ b ^ r) & 0x10; if ((a ^ b) & (a ^ r) & sb) f |= 0x800; }
  else if (k == 4) { if ((r & 15) == 0) f |= 0x10; if (r == sb) f |= 0x800; }
  else if (k == 5) { if ((r & 15) == 15) f |= 0x10; if (r == sb - 1) f |= 0x800; }
  return f; }
export function materialise(c: u32): void { cpu = CPU + c * CPU_SIZE; setCC(0, 3, getFlags(), 0, 0); }
@inline function setF(f: u64): void { store<u32>(cpu + 0xA0, 3); store<u64>(cpu + 0xA8, f); }
function cond(c: u32): bool { let r: bool;
  const k = load<u32>(cpu + 0xA0) >> 2, sz = load<u32>(cpu + 0xA0) & 3; const res = load<u64>(cpu + 0xA8);
  const h = c >> 1;
  if (h == 2 && k != 0) r = res == 0;
  else if (h == 4 && k != 0) r = (res & signBit(sz)) != 0;
  else if (h == 1) r = getCF() != 0;
  else if (k == 2 && (h == 6 || h == 7 || h == 3)) { const a = load<u64>(cpu + 0xB0), b = load<u64>(cpu + 0xB8); const sh: u64 = 64 - (8 << sz);
    if (h == 3) r = getCF() != 0 || res == 0; else { const a2 = <i64>(a << sh), b2 = <i64>(b << sh); const plain = ((a - b) & mask(sz)) == res; if (plain) r = h == 6 ? a2 < b2 : a2 <= b2; else { const f = getFlags(); const l = ((f >> 7) ^ (f >> 11)) & 1; r = h == 6 ? l != 0 : (l != 0 || (f & 0x40) != 0); } } }
  else { const f = getFlags();
    if (h == 0) r = (f & 0x800) != 0; else if (h == 2) r = (f & 0x40) != 0; else if (h == 3) r = (f & 0x41) != 0; else if (h == 4) r = (f & 0x80) != 0; else if (h == 5) r = (f & 4) != 0;
    else { const l = ((f >> 7) ^ (f >> 11)) & 1; r = h == 6 ? l != 0 : (l != 0 || (f & 0x40) != 0); } }
  return (c & 1) ? !r : r; }
function alu(k: u32, sz: u32, a: u64, b: u64): u64 { const m = mask(sz); b &= m; let r: u64;
  switch (k) {
    case 0: r = (a + b) & m; setCC(1, sz, r, a, b); return r;
    case 1: r = a | b; setCC(3, sz, r, 0, 0); return r;
    case 2: r = (a + b + getCF()) & m; setCC(1, sz, r, a, b); return r;
    case 3: r = (a - b - getCF()) & m; setCC(2, sz, r, a, b); return r;
    case 4: case 8: r = a & b; setCC(3, sz, r, 0, 0); return r;
    case 5: case 7: r = (a - b) & m; setCC(2, sz, r, a, b); return r;
    default: r = a ^ b; setCC(3, sz, r, 0, 0); return r;
  } }
@inline function rd(o: usize, sz: u32): u64 { return sz == 3 ? load<u64>(cpu + o) : sz == 2 ? load<u32>(cpu + o) : sz == 0 ? load<u8>(cpu + o) : load<u16>(cpu + o); }
@inline function wr(o: usize, v: u64, sz: u32): void { if (sz == 3) store<u64>(cpu + o, v); else if (sz == 2) store<u64>(cpu + o, v & 0xffffffff); else if (sz == 0) store<u8>(cpu + o, <u8>v); else store<u16>(cpu + o, <u16>v); }
@inline function ea(op: usize): u64 { const ss = load<u8>(op + 6); let v = load<u64>(cpu + (<usize>load<u8>(op + 4) << 3)) + (load<u64>(cpu + (<usize>load<u8>(op + 5) << 3)) << (ss & 3)) + <u64><i64>load<i32>(op + 8);
  if (ss & 0x40) v &= 0xffffffff; const sg = (ss >> 2) & 3; if (sg == 1) v += load<u64>(cpu + 0xE8); else if (sg == 2) v += load<u64>(cpu + 0xF0); return v; }
function shiftOp(k: u32, sz: u32, a: u64, n: u64): u64 { // k: 0 rol 1 ror 2 rcl 3 rcr 4 shl 5 shr 7 sar
  const bits: u64 = 8 << sz; const m = mask(sz), sb = signBit(sz); n &= sz == 3 ? 63 : 31; if (n == 0) return a;
  let r: u64 = a; let f = getFlags(); let cf: u64 = 0;
  if (k == 4) { r = n >= 64 ? 0 : (a << n) & m; cf = n <= bits ? (a >> (bits - n)) & 1 : 0; f = (((r & sb) != 0 ? 1 : 0) ^ cf) != 0 ? 0x800 : 0; }
  else if (k == 5) { r = a >> n; cf = (a >> (n - 1)) & 1; f = (a & sb) ? 0x800 : 0; }
  else if (k == 7) { const sx = <i64>(a << (64 - bits)) >> (64 - bits); r = <u64>(sx >> (n > 63 ? 63 : n)) & m; cf = <u64>(sx >> (n - 1 > 63 ? 63 : n - 1)) & 1; f = 0; }
  else { f &= ~0x801;
    if (k == 0) { const s = n % bits; r = s == 0 ? a : ((a << s) | (a >> (bits - s))) & m; cf = r & 1; if (((r & sb) != 0 ? 1 : 0) ^ cf) f |= 0x800; }
    else if (k == 1) { const s = n % bits; r = s == 0 ? a : ((a >> s) | (a << (bits - s))) & m; cf = (r & sb) ? 1 : 0; if (((r & sb) != 0) != ((r & (sb >> 1)) != 0)) f |= 0x800; }
    else { let c = getCF(); n %= bits + 1; for (let i: u64 = 0; i < n; i++) { if (k == 2) { const t = (r & sb) ? 1 : 0; r = ((r << 1) | c) & m; c = t; } else { const t = r & 1; r = (r >> 1) | (c ? sb : 0); c = t; } } cf = c;
      if (k == 2) { if (((r & sb) != 0 ? 1 : 0) ^ cf) f |= 0x800; } else { if (((r & sb) != 0) != ((r & (sb >> 1)) != 0)) f |= 0x800; } if (n == 0) { return a; } }
    setF(f | cf); return r; }
  f |= cf; if (r == 0) f |= 0x40; if (r & sb) f |= 0x80; if ((popcnt<u32>(<u32>(r & 0xff)) & 1) == 0) f |= 4; setF(f); return r; }
let hi64: u64 = 0;
function mulu(a: u64, b: u64): u64 { const al = a & 0xffffffff, ah = a >> 32, bl = b & 0xffffffff, bh = b >> 32; const t = al * bl; const u = ah * bl + (t >> 32); const v = al * bh + (u & 0xffffffff); hi64 = ah * bh + (u >> 32) + (v >> 32); return a * b; }
function muls(a: u64, b: u64): u64 { const lo = mulu(a, b); if (<i64>a < 0) hi64 -= b; if (<i64>b < 0) hi64 -= a; return lo; }
let rem64: u64 = 0;
function divu(h: u64, l: u64, d: u64): u64 { if (h == 0) { rem64 = l % d; return l / d; } let q: u64 = 0, r = h; for (let i = 63; i >= 0; i--) { const c = r >> 63; r = (r << 1) | ((l >> i) & 1); if (c || r >= d) { r -= d; q |= (<u64>1) << i; } } rem64 = r; return q; }
function excp(v: u32, err: u32): void { store<u32>(cpu + 0xC8, v); store<u32>(cpu + 0xCC, err); fault = true; store<u32>(cpu + 0xC4, 2); }
// op numbers
const MOV: u32 = 64;
export function run(c: u32, budgetF: f64): u32 {
  cpu = CPU + c * CPU_SIZE; jc = JC + (<usize>c << 16); loadGen(); fault = false; smc = false; store<u32>(cpu + 0xC4, 0); W(17 << 3, 0);
  let budget = <i64>budgetF; let retired = load<u64>(cpu + 0xE0);
  let rip = load<u64>(cpu + 0x90); let reason: u32 = 0;
  while (true) {
    if (budget <= 0) { reason = 0; break; }
    if (load<u32>(cpu + 0x190)) { store<u32>(cpu + 0x190, 0); reason = 6; break; }
    // find block
    const tag = (rip << 1 | <u64>load<u32>(cpu + 0xC0)) ; const je = jc + (<usize>((rip ^ (rip >> 12)) & 2047) << 5);
    let blk: usize = 0;
    if (load<u64>(je) == tag && load<u64>(je + 8) == jgen) blk = load<u32>(je + 16);
    else {
      const pg = walk(rip, 2, load<u32>(cpu + 0xC0) != 0);
      if (pg == -1) { fault = true; break; }
      const pa = <u32>pg + <u32>(rip & 0xfff);
      const ph = PH + (((pa ^ (pa >> 14)) & 0x3fff) << 4);
      if (load<u32>(ph) == pa && load<u64>(ph + 8) == pgen) blk = load<u32>(ph + 4);
      else {
        store<u64>(cpu + 0x90, rip);
        const cf = CODE + ((<u32>pg - <u32>FRAMES) >> 12);
        if (load<u8>(cf) == 0) { store<u8>(cf, 1); codeFill(<u32>pg); }
        const before = pgen;
        blk = decodeBlock(pa, rip);
        if (blk == 0) { fault = true; break; }
        // A block that reaches into the next page depends on what is mapped there: not remembered by its frame.
        if (load<u32>(blk + 4) == 0 && before == pgen) { store<u32>(ph, pa); store<u32>(ph + 4, <u32>blk); store<u64>(ph + 8, pgen); }
      }
      store<u64>(je, tag); store<u64>(je + 8, jgen); store<u32>(je + 16, <u32>blk);
    }
    smc = false;
    W(16 << 3, rip);
    const n = load<u32>(blk); let op = blk + 16; let i: u32 = 0; let next = rip; let jumped = false;
    while (i < n) {
      if (budget <= 0) break;
      const o = <u32>load<u16>(op); const d = <usize>load<u8>(op + 2), s = <usize>load<u8>(op + 3); const ss = load<u8>(op + 6); const sz: u32 = (ss >> 4) & 3; const len = <u64>load<u8>(op + 7); const imm = <u64><i64>load<i32>(op + 12);
      if (o < 45) { const k = o / 5, f = o % 5; let a: u64, b: u64, va: u64 = 0;
        if (f == 0) { a = rd(d, sz); b = rd(s, sz); } else if (f == 1) { a = rd(d, sz); b = imm; } else if (f == 2) { va = ea(op); b = ld(va, sz); a = rd(d, sz); } else { va = ea(op); if (k < 7 && !probeW(va, 1 << sz)) break; a = ld(va, sz); b = f == 3 ? rd(s, sz) : imm; }
        if (fault) break; const r = alu(k, sz, a, b); if (k < 7) { if (f < 3) wr(d, r, sz); else st(va, r, sz); }
      } else switch (o) {
        case 45: break; // nop
        case 46: wr(d, rd(s, sz), sz); break;
        case 47: wr(d, imm, sz); break;
        case 48: W(d, <u64>load<u32>(op + 8) | (<u64>load<u32>(op + 12) << 32)); break;
        case 49: { const v = ld(ea(op), sz); if (!fault) wr(d, v, sz); break; }
        case 50: st(ea(op), rd(s, sz), sz); break;
        case 51: st(ea(op), imm, sz); break;
        case 52: { let v = ea(op); wr(d, v, sz); break; } // lea
        case 53: wr(d, rd(s, <u32>imm), sz); break; // movzx reg, imm = src size
        case 54: { const v = ld(ea(op), <u32>imm); if (!fault) wr(d, v, sz); break; }
        case 55: { const sh: u64 = 64 - (8 << <u32>imm); wr(d, <u64>(<i64>(rd(s, <u32>imm) << sh) >> sh), sz); break; }
        case 56: { const sh: u64 = 64 - (8 << <u32>imm); const v = ld(ea(op), <u32>imm); if (!fault) wr(d, <u64>(<i64>(v << sh) >> sh), sz); break; }
        case 57: { const t = rd(d, sz); wr(d, rd(s, sz), sz); wr(s, t, sz); break; }
        case 58: { const va = ea(op); if (!probeW(va, 1 << sz)) break; const t = ld(va, sz); st(va, rd(s, sz), sz); wr(s, t, sz); break; }
        case 59: { const sp = R(32) - (1 << sz); st(sp, d == 255 ? imm : rd(d, sz), sz); if (!fault) W(32, sp); break; } // push
        case 60: { const v = ld(ea(op), sz); if (fault) break; const sp = R(32) - (1 << sz); st(sp, v, sz); if (!fault) W(32, sp); break; }
        case 61: { const v = ld(R(32), sz); if (fault) break; W(32, R(32) + (1 << sz)); wr(d, v, sz); break; }
        case 62: { const sp = R(32); const v = ld(sp, sz); if (fault) break; W(32, sp + (1 << sz)); st(ea(op), v, sz); if (fault) W(32, sp); break; }
        case 63: { const sp = R(32) - (1 << sz); st(sp, getFlags() | load<u64>(cpu + 0x98) | 0x202, sz); if (!fault) W(32, sp); break; }
        case 64: { const v = ld(R(32), sz); if (fault) break; W(32, R(32) + (1 << sz)); setF(v & 0x8d5); const keep = load<u64>(cpu + 0x98); store<u64>(cpu + 0x98, sz == 1 ? (keep & ~0x4500) | (v & 0x4500) : (keep & ~0x244500) | (v & 0x244500)); break; }
        case 65: { const t = rip + imm; const sp = R(32) - 8; st(sp, rip + <u64>load<u32>(op + 8), 3); if (fault) break; W(32, sp); next = t; jumped = true; break; } // call rel: imm= target offset from block start; disp = offset of next instr
        case 66: { const t = R(s); const sp = R(32) - 8; st(sp, rip + imm, 3); if (fault) break; W(32, sp); next = t; jumped = true; break; }
        case 67: { const t = ld(ea(op), 3); if (fault) break; const sp = R(32) - 8; st(sp, rip + imm, 3); if (fault) break; W(32, sp); next = t; jumped = true; break; }
        case 68: { const t = ld(R(32), 3); if (fault) break; W(32, R(32) + 8 + imm); next = t; jumped = true; break; }
        case 69: next = rip + imm; jumped = true; break;
        case 70: next = R(s); jumped = true; break;
        case 71: { const t = ld(ea(op), 3); if (!fault) { next = t; jumped = true; } break; }
        case 72: next = rip + (cond(<u32>d) ? imm : <u64><i64>load<i32>(op + 8)); jumped = true; break; // jcc: imm taken, disp not taken
        case 73: wr(d, cond(<u32>s) ? 1 : 0, 0); break;
        case 74: st(ea(op), cond(<u32>s) ? 1 : 0, 0); break;
        case 75: { const v = rd(s, sz); wr(d, cond(<u32>imm) ? v : rd(d, sz), sz); break; }
        case 76: { const v = ld(ea(op), sz); if (fault) break; wr(d, cond(<u32>imm) ? v : rd(d, sz), sz); break; }
        case 77: case 78: { // unary s: 0 inc 1 dec 2 neg 3 not; 77 reg 78 mem
          let va: u64 = 0; let a: u64; if (o == 77) a = rd(d, sz); else { va = ea(op); if (!probeW(va, 1 << sz)) break; a = ld(va, sz); } const m = mask(sz); let r: u64 = 0;
          if (s == 0) { const cf = getCF(); r = (a + 1) & m; setCC(4, sz, r, 0, cf); } else if (s == 1) { const cf = getCF(); r = (a - 1) & m; setCC(5, sz, r, 0, cf); } else if (s == 2) { r = (0 - a) & m; setCC(2, sz, r, 0, a); } else r = ~a & m;
          if (o == 77) wr(d, r, sz); else st(va, r, sz); break; }
        case 79: case 80: { // shift: s = kind; imm = count or -1 for CL
          const cnt = <i64>imm == -1 ? R(8) & 0xff : imm; let va: u64 = 0; let a: u64; if (o == 79) a = rd(d, sz); else { va = ea(op); if (!probeW(va, 1 << sz)) break; a = ld(va, sz); }
          const r = shiftOp(<u32>s, sz, a, cnt); if (o == 79) wr(d, r, sz); else st(va, r, sz); break; }
        case 81: case 82: { // shld/shrd: base in d / mem; s reg; imm low byte count or 0xff CL; bit 8: right
          const right = (imm & 0x100) != 0; let cnt = (imm & 0xff) == 0xff ? R(8) : imm & 0xff; cnt &= sz == 3 ? 63 : 31; let va: u64 = 0; let a: u64; if (o == 81) a = rd(d, sz); else { va = ea(op); if (!probeW(va, 1 << sz)) break; a = ld(va, sz); }
          if (cnt == 0) { if (o == 81 && sz == 2) wr(d, a, sz); break; } const bits: u64 = 8 << sz; const b = rd(s, sz); let r: u64, cf: u64;
          if (sz == 1) cnt = cnt > 16 ? cnt - 16 : cnt; 
          if (!right) { r = ((a << cnt) | (cnt == bits ? b : b >> (bits - cnt))) & mask(sz); cf = (a >> (bits - cnt)) & 1; } else { r = ((a >> cnt) | (b << (bits - cnt))) & mask(sz); cf = (a >> (cnt - 1)) & 1; }
          let f = cf; if ((a ^ r) & signBit(sz)) f |= 0x800; if (r == 0) f |= 0x40; if (r & signBit(sz)) f |= 0x80; if ((popcnt<u32>(<u32>(r & 0xff)) & 1) == 0) f |= 4; setF(f);
          if (o == 81) wr(d, r, sz); else st(va, r, sz); break; }
        case 83: case 84: { // mul family one operand; d: 4 mul 5 imul 6 div 7 idiv ; 83 reg s, 84 mem
          const b0 = o == 83 ? rd(s, sz) : ld(ea(op), sz); if (fault) break; const sh: u64 = 64 - (8 << sz); const bits: u64 = 8 << sz;
          if (d <= 5) { const a0 = rd(0, sz); let lo: u64, h: u64; let ofl = false;
            if (d == 4) { if (sz == 3) { lo = mulu(a0, b0); h = hi64; } else { const p = a0 * b0; lo = p & mask(sz); h = p >> bits; } ofl = h != 0; }
            else { if (sz == 3) { lo = muls(a0, b0); h = hi64; ofl = <i64>h != (<i64>lo >> 63); } else { const p = (<i64>(a0 << sh) >> sh) * (<i64>(b0 << sh) >> sh); lo = <u64>p & mask(sz); h = <u64>(p >> bits) & mask(sz); ofl = p != (<i64>(lo << sh) >> sh); } }
            if (sz == 0) store<u16>(cpu, <u16>(lo | (h << 8))); else { wr(0, lo, sz); wr(16, h, sz); } let f: u64 = ofl ? 0x801 : 0; if (lo & signBit(sz)) f |= 0x80; if ((popcnt<u32>(<u32>(lo & 0xff)) & 1) == 0) f |= 4; setF(f);
          } else { if (b0 == 0) { excp(0, 0); break; } let h = sz == 0 ? <u64>load<u8>(cpu + 1) : rd(16, sz), l = rd(0, sz); let q: u64, r: u64;
            if (d == 6) { if (h >= b0) { excp(0, 0); break; } if (sz == 3) { q = divu(h, l, b0); r = rem64; } else { const v = (h << bits) | l; q = v / b0; r = v % b0; } }
            else { if (sz == 3) { const neg = <i64>h < 0; if (neg) { l = ~l + 1; h = ~h + (l == 0 ? 1 : 0); } const db = <i64>b0 < 0 ? ~b0 + 1 : b0; if (h >= db) { excp(0, 0); break; } q = divu(h, l, db); r = rem64; const qn = neg != (<i64>b0 < 0); if (qn ? q > 0x8000000000000000 : q > 0x7fffffffffffffff) { excp(0, 0); break; } if (qn) q = ~q + 1; if (neg) r = ~r + 1; }
              else { const v = <i64>(((h << bits) | l) << (sz == 2 ? 0 : 64 - 2 * bits)) >> (sz == 2 ? 0 : 64 - 2 * bits); const db = <i64>(b0 << sh) >> sh; if (db == -1 && v == i64.MIN_VALUE) { excp(0, 0); break; } const qq = v / db; if (qq != (<i64>(<u64>qq << sh) >> sh)) { excp(0, 0); break; } q = <u64>qq; r = <u64>(v % db); } }
            if (sz == 0) store<u16>(cpu, <u16>((q & 0xff) | ((r & 0xff) << 8))); else { wr(0, q, sz); wr(16, r, sz); } }
          break; }
        case 85: case 86: case 87: case 88: { // imul d, s ; d, mem ; d, s, imm ; d, mem, imm
          let a: u64, b: u64; const sh: u64 = 64 - (8 << sz); if (o == 85) { a = rd(d, sz); b = rd(s, sz); } else if (o == 86) { a = rd(d, sz); b = ld(ea(op), sz); } else if (o == 87) { a = rd(s, sz); b = imm; } else { a = ld(ea(op), sz); b = imm; }
          if (fault) break; let lo: u64; let ofl: bool; if (sz == 3) { lo = muls(a, b); ofl = <i64>hi64 != (<i64>lo >> 63); } else { const p = (<i64>(a << sh) >> sh) * (<i64>(b << sh) >> sh); lo = <u64>p & mask(sz); ofl = p != (<i64>(lo << sh) >> sh); }
          let f: u64 = ofl ? 0x801 : 0; if (lo & signBit(sz)) f |= 0x80; if ((popcnt<u32>(<u32>(lo & 0xff)) & 1) == 0) f |= 4; setF(f); wr(d, lo, sz); break; }
        case 89: { if (sz == 1) store<u16>(cpu, <u16><i16>load<i8>(cpu)); else if (sz == 2) W(0, <u64><u32><i32>load<i16>(cpu)); else W(0, <u64><i64>load<i32>(cpu)); break; } // cbw..
        case 90: { const v = <i64>(rd(0, sz) << (64 - (8 << sz))) >> 63; wr(16, <u64>v, sz); break; } // cwd..
        case 91: case 92: { // bt family: s = kind 0 bt 1 bts 2 btr 3 btc; reg form: d, bit from base? ; uses index byte for bit reg offset in `base` field (255=imm)
          const bits: u64 = 8 << sz; let bit: u64; const br = load<u8>(op + 8 + 3); 
          if (o == 91) { const bsel = load<u8>(op + 4); bit = bsel == 255 ? imm : rd(<usize>bsel, sz); bit &= bits - 1; const a = rd(d, sz); const f = getFlags() & ~1; setF(f | ((a >> bit) & 1)); const mk = (<u64>1) << bit; if (s == 1) wr(d, a | mk, sz); else if (s == 2) wr(d, a & ~mk, sz); else if (s == 3) wr(d, a ^ mk, sz); }
          else { let va = ea(op); if (d == 255) bit = imm & (bits - 1); else { const sh: u64 = 64 - bits; const bi = <i64>(rd(d, sz) << sh) >> sh; va += <u64>((bi >> (3 + sz)) << sz); bit = <u64>bi & (bits - 1); }
            if (s != 0 && !probeW(va, 1 << sz)) break; const a = ld(va, sz); if (fault) break; const f = getFlags() & ~1; const mk = (<u64>1) << bit; if (s == 1) st(va, a | mk, sz); else if (s == 2) st(va, a & ~mk, sz); else if (s == 3) st(va, a ^ mk, sz); if (!fault) setF(f | ((a >> bit) & 1)); }
          break; }
        case 93: case 94: { const v = o == 93 ? rd(s, sz) : ld(ea(op), sz); if (fault) break; let f = getFlags() & ~0x40; if (v == 0) { setF(f | 0x40); } else { setF(f); wr(d, imm ? 63 - clz<u64>(v) : ctz<u64>(v), sz); } break; }
        case 95: { if (sz == 3) W(d, bswap<u64>(R(d))); else W(d, <u64>bswap<u32>(load<u32>(cpu + d))); break; }
        case 96: case 97: { // cmpxchg
          let va: u64 = 0; let a: u64; if (o == 96) a = rd(d, sz); else { va = ea(op); if (!probeW(va, 1 << sz)) break; a = ld(va, sz); } const acc = rd(0, sz); setCC(2, sz, (acc - a) & mask(sz), acc, a);
          if (acc == a) { if (o == 96) wr(d, rd(s, sz), sz); else st(va, rd(s, sz), sz); } else { if (o == 97) st(va, a, sz); wr(0, a, sz); if (o == 96 && sz == 2) wr(d, a, sz); } break; }
        case 98: case 99: { let va: u64 = 0; let a: u64; if (o == 98) a = rd(d, sz); else { va = ea(op); if (!probeW(va, 1 << sz)) break; a = ld(va, sz); } const b = rd(s, sz); const r = (a + b) & mask(sz); setCC(1, sz, r, a, b); wr(s, a, sz); if (o == 98) wr(d, r, sz); else st(va, r, sz); break; }
        case 100: { // cmpxchg8b/16b, imm = half size log 2/3
          const va = ea(op); const h: u32 = <u32>imm; const hb: u64 = 1 << h; if (h == 3 && (va & 15) != 0) { excp(13, 0); break; } if (!probeW(va, <u32>hb * 2)) break; const lo = ld(va, h), hi = ld(va + hb, h); const f = getFlags() & ~0x40;
          if (lo == rd(0, h) && hi == rd(16, h)) { st(va, rd(24, h), h); st(va + hb, rd(8, h), h); setF(f | 0x40); } else { wr(0, lo, h); wr(16, hi, h); setF(f); } break; }
        case 101: { const f = getFlags(); setF(s == 0 ? f & ~1 : s == 1 ? f | 1 : f ^ 1); break; }
        case 102: store<u64>(cpu + 0x98, s ? load<u64>(cpu + 0x98) | 0x400 : load<u64>(cpu + 0x98) & ~0x400); break;
        case 103: store<u8>(cpu + 1, <u8>((getFlags() & 0xd5) | 2)); break;
        case 104: setF((getFlags() & 0x800) | (<u64>load<u8>(cpu + 1) & 0xd5)); break;
        case 105: { const v = ld(R(40), 3); if (fault) break; W(32, R(40) + 8); W(40, v); break; } // leave
        case 106: { // jrcxz/loop: s: 0 jrcxz 1 loop 2 loope 3 loopne
          let t = false; if (s == 0) t = R(8) == 0; else { const cx = R(8) - 1; W(8, cx); t = cx != 0; if (s == 2) t = t && cond(4); else if (s == 3) t = t && !cond(4); } next = rip + (t ? imm : <u64><i64>load<i32>(op + 8)); jumped = true; break; }
        case 107: { // string: s kind 0 movs 1 stos 2 lods 3 scas 4 cmps; imm: 0 none 1 rep/repe 2 repne; d seg (0 none,1 fs,2 gs)
          const st0: u64 = (load<u64>(cpu + 0x98) & 0x400) ? 0 - (<u64>1 << sz) : <u64>1 << sz; const segb: u64 = d == 1 ? load<u64>(cpu + 0xE8) : d == 2 ? load<u64>(cpu + 0xF0) : 0; let iter = 0;
          while (true) { if (imm != 0 && R(8) == 0) break;
            if (s == 0) { const v = ld(R(48) + segb, sz); if (fault) break; st(R(56), v, sz); if (fault) break; W(48, R(48) + st0); W(56, R(56) + st0); }
            else if (s == 1) { st(R(56), R(0), sz); if (fault) break; W(56, R(56) + st0); }
            else if (s == 2) { const v = ld(R(48) + segb, sz); if (fault) break; wr(0, v, sz); W(48, R(48) + st0); }
            else if (s == 3) { const v = ld(R(56), sz); if (fault) break; const a = rd(0, sz); setCC(2, sz, (a - v) & mask(sz), a, v); W(56, R(56) + st0); }
            else { const a = ld(R(48) + segb, sz); if (fault) break; const v = ld(R(56), sz); if (fault) break; setCC(2, sz, (a - v) & mask(sz), a, v); W(48, R(48) + st0); W(56, R(56) + st0); }
            if (imm == 0) break; W(8, R(8) - 1); if (s >= 3) { const z = cond(4); if (imm == 1 ? !z : z) break; } if (smc) { if (R(8) != 0) { iter = 99999; } break; } if (++iter >= 65536) break; }
          if (!fault && iter >= 65536 && imm != 0 && R(8) != 0) { i--; op -= 16; retired--; budget++; }
          break; }
        case 108: { store<u64>(cpu + 0x90, 0); reason = 1; break; }
        case 109: { const t = <u64>hostNow(); W(0, t & 0xffffffff); W(16, t >> 32); break; }
        case 110: { reason = 7; break; } // cpuid: handled in JS
        case 111: { excp(<u32>imm, 0); if (imm == 3 || s) { } break; } // exception fault-type
        case 112: { store<u32>(cpu + 0xC8, <u32>imm); store<u32>(cpu + 0xCC, 0); store<u32>(cpu + 0xD8, <u32>len); store<u32>(cpu + 0xDC, 1); reason = 8; break; } // trap-type exception: rip after
        case 113: { store<u32>(cpu + 0xD8, <u32>len); store<u32>(cpu + 0xC4, <u32>imm); fault = true; break; } // privileged 3/descriptor 4/forced 5
        case 114: wr(d, <u64>load<u16>(cpu + 0x168 + (s << 1)), sz == 1 ? 1 : 2); break; // mov r, seg
        case 115: st(ea(op), <u64>load<u16>(cpu + 0x168 + (s << 1)), 1); break;
        case 116: { const v = ld(R(24) + (R(0) & 0xff) + (d == 1 ? load<u64>(cpu + 0xE8) : d == 2 ? load<u64>(cpu + 0xF0) : 0), 0); if (!fault) store<u8>(cpu, <u8>v); break; }
        case 117: { const bytes = imm & 0xffff; const fp = R(32) - 8; st(fp, R(40), 3); if (fault) break; W(32, fp - bytes); W(40, fp); break; } // enter n,0
        case 118: { const sg = load<u8>(op + 4); const v = ld(load<u64>(op + 8) + (sg == 1 ? load<u64>(cpu + 0xE8) : sg == 2 ? load<u64>(cpu + 0xF0) : 0), sz); if (!fault) wr(0, v, sz); break; }
        case 119: { const sg = load<u8>(op + 4); st(load<u64>(op + 8) + (sg == 1 ? load<u64>(cpu + 0xE8) : sg == 2 ? load<u64>(cpu + 0xF0) : 0), rd(0, sz), sz); break; }
        case 120: { const sp = R(32) - (1 << sz); st(sp, <u64>load<u16>(cpu + 0x168 + (s << 1)), sz); if (!fault) W(32, sp); break; }
        case 121: fpOp(op, <usize>imm, rip + <u64>offsetOf(blk, i)); break;
        default: excp(6, 0);
      }
      if (fault) break;
      i++; op += 16; retired++; budget--;
      if (jumped || reason != 0 || smc) break;
    }
    // new rip: offset of op i in the block
    if (jumped && !fault) rip = next;
    else rip = rip + <u64>offsetOf(blk, i);
    if (fault) break;
    if (reason != 0) break;
    // TF was set just now: the caller steps from here.
    if (load<u32>(cpu + 0x98) & 0x100) break;
  }
  store<u64>(cpu + 0x90, rip); store<u64>(cpu + 0xE0, retired);
  if (fault) {
    const r = load<u32>(cpu + 0xC4); fault = false;
    if (r == 0) { const code = load<u32>(cpu + 0x180); if (code & 0x10000) { store<u32>(cpu + 0xC8, 13); store<u32>(cpu + 0xCC, 0); } else { store<u32>(cpu + 0xC8, 14); store<u32>(cpu + 0xCC, code); store<u64>(cpu + 0xD0, load<u64>(cpu + 0x188)); store<u64>(cpu + 0x118, load<u64>(cpu + 0x188)); } return 2; }
    return r; }
  if (reason == 8) return 2;
  return reason;
}
function codeFill(pg: u32): void { for (let c: u32 = 0; c < 8; c++) { const b = TLB + (c << 16); for (let e = b; e < b + 65536; e += 32) if (load<u64>(e + 8) != 0 && <u32>(load<u64>(e) & ~0xfff) + load<u32>(e + 16) == pg) store<u64>(e + 8, 0); } }
function offsetOf(blk: usize, i: u32): u32 { let off: u32 = 0; for (let j: u32 = 0; j < i; j++) off += load<u8>(blk + 16 + (j << 4) + 7); return off; }

/** All decoded code was dropped. */
export function codeGone(): void { jgen++; pgen++; }
