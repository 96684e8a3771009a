// Floating point and SIMD. Operands are fetched and stored here; fp/ does the arithmetic. Each operation has a
// descriptor: u16 number, u16 bytes loaded, u16 bytes stored, u16 source (offset in the vCPU), i32 immediate, u8
// destination, 0, u8 bits, u8 unit. Invariant: if the operand faults, nothing is changed.
import { BLOCK_VA, CR0, CS_BASE, FP_FLAGS, FSW, NOW_DP, NOW_IP, NOW_SELECTORS, O_IMM, O_SCALE, SCALE_SLOT, SCRATCH, SELECTORS, CURRENT_BLOCK } from './layout';
import { GP, MF, NM, offsetOf, raise, UD } from './engine';
import { getFlags, setFlags } from './flags';
import { checkFirstPiece, readBytes, slowProbe, writeBytes } from './access';
import { address } from './operands';
import { fpCommit, fpExec } from './fp/index';
import { isLong, NARROW, selectorOf } from './segment';

const ALIGNED: u32 = 1;
const FLAGS: u32 = 2;
/** A pending x87 exception is raised before any exception of the operand. */
const WAITS: u32 = 8;
/** The code and data selectors that x87's images show in long mode, where they have no meaning. */
const LONG_SELECTORS: u32 = 0x2b_0033;
const X87: u32 = 0;
const SSE: u32 = 2;
const WAIT: u32 = 0x80;
const MP: u32 = 2;
const EM: u32 = 4;
const TS: u32 = 8;

export function floatOperation(cpu: usize, op: usize): void {
  const d: usize = load<u32>(op, O_IMM);
  const unit: u32 = load<u8>(d, 15);
  const bits: u32 = load<u8>(d, 14);
  const loaded: u32 = load<u16>(d, 2);
  const stored: u32 = load<u16>(d, 4);
  const cr0 = load<u32>(cpu, CR0);
  if (unit & WAIT) {
    if ((cr0 & (MP | TS)) == (MP | TS)) raise(cpu, NM, 0);
  } else {
    if (cr0 & EM) raise(cpu, unit == X87 ? NM : UD, 0);
    if (cr0 & TS) raise(cpu, NM, 0);
  }
  if (bits & WAITS && load<u16>(cpu, FSW) & 0x80) raise(cpu, MF, 0);
  let va: u64 = 0;
  if (loaded | stored) {
    va = address(cpu, op);
    if (bits & ALIGNED && (va & 15) != 0) raise(cpu, GP, 0);
    if (unit == X87 && (loaded | stored) > 8) checkFirstPiece(cpu, op, va, loaded | stored, stored != 0);
    if (stored != 0) slowProbe(cpu, op, va, stored);
    if (loaded != 0) readBytes(cpu, op, va, cpu + SCRATCH, loaded);
  }
  if (bits & FLAGS) store<u32>(cpu, getFlags(cpu) | 2, FP_FLAGS);
  if (unit == X87) {
    const linear = load<u64>(cpu, BLOCK_VA) + offsetOf(load<u32>(cpu, CURRENT_BLOCK), op);
    if (isLong(cpu)) {
      store<u64>(cpu, linear, NOW_IP);
      store<u64>(cpu, va, NOW_DP);
      store<u32>(cpu, LONG_SELECTORS, NOW_SELECTORS);
    } else {
      const slot: usize = (load<u8>(op, O_SCALE) & 0x78) | SCALE_SLOT;
      store<u64>(cpu, (linear - load<u64>(cpu, CS_BASE)) & NARROW, NOW_IP);
      store<u64>(cpu, (va - load<u64>(cpu + slot)) & NARROW, NOW_DP);
      const data = loaded | stored ? <u32>load<u16>(cpu + selectorOf(slot)) : 0;
      store<u32>(cpu, (data << 16) | load<u16>(cpu + SELECTORS + 2), NOW_SELECTORS);
    }
  }
  const number: i32 = load<u16>(d);
  const r = fpExec(cpu, number, load<u8>(d, 12), cpu + load<u16>(d, 6), load<i32>(d, 8));
  if (r > 0) raise(cpu, r, 0);
  if (r == 0 && stored != 0) {
    writeBytes(cpu, op, va, cpu + SCRATCH, stored);
    fpCommit(cpu, number);
  }
  if (bits & FLAGS) setFlags(cpu, load<u32>(cpu, FP_FLAGS));
}
