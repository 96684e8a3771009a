// Checks of accesses on the slow path: alignment (AC) and data breakpoints. ACCESS_TAG is ALL_SLOW while either is
// enabled, so that all accesses come here. Otherwise neither costs anything. SDM vol. 3, 17.2.
import { ACCESS_TAG, ALL_SLOW, CR0, DR, SYSTEM_FLAGS, WATCHING, WATCH_HITS } from './layout';
import { AC, raise } from './engine';

/** AC in RFLAGS and AM in CR0, which are the same bit. */
const ALIGNMENT: u32 = 0x40000;
const ON_WRITE: u32 = 1;
const ON_ACCESS: u32 = 3;

/** Whether alignment is checked. It is checked at CPL 3, which the guest's kernel has too. */
@inline
export function alignmentChecked(cpu: usize): bool {
  return (load<u32>(cpu, SYSTEM_FLAGS) & load<u32>(cpu, CR0) & ALIGNMENT) != 0;
}

/** Whether accesses are checked one by one. */
@inline
export function watched(cpu: usize): bool {
  return load<u64>(cpu, ACCESS_TAG) == ALL_SLOW;
}

/**
 * Raises #AC if `size` bytes at va are not aligned and alignment is checked. Operands of more than 8 bytes have
 * checks of their own.
 */
export function checkAlignment(cpu: usize, va: u64, size: u32): void {
  if (watched(cpu) && size <= 8 && (va & (size - 1)) != 0 && alignmentChecked(cpu)) raise(cpu, AC, 0);
}

/** Records the breakpoints that an access hits. They trap when the instruction is done. */
export function noteAccess(cpu: usize, va: u64, size: u32, isWrite: bool): void {
  if (load<u32>(cpu, WATCHING) == 0) return;
  const control = load<u32>(cpu, DR + 56);
  for (let i: u32 = 0; i < 4; i++) {
    if (((control >> (2 * i)) & 3) == 0) continue;
    const kind = (control >> (16 + 4 * i)) & 3;
    if (kind != ON_ACCESS && !(kind == ON_WRITE && isWrite)) continue;
    const code = (control >> (18 + 4 * i)) & 3;
    const length: u64 = code == 2 ? 8 : code + 1;
    const first = load<u64>(cpu + (<usize>i << 3), DR) & ~(length - 1);
    if (va < first + length && first < va + size) store<u32>(cpu, load<u32>(cpu, WATCH_HITS) | (1 << i), WATCH_HITS);
  }
}
