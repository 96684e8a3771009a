/**
 * The segment descriptors of a guest: its GDT and LDT, Xen's own entries above 0xe000, and what a guest may write.
 *
 * Invariant: a descriptor is checked and sanitised when it is written with a hypercall, and when its page becomes
 * part of a table. The guest has no privilege levels 0 and 1 (they become 3).
 * Source: check_descriptor, pv_set_gdt of xen/arch/x86/pv/descriptor-tables.c; Intel SDM volume 3, 3.4.5.
 */
import { Intent } from '../../engine/engine.js';
import { EFAULT, EINVAL } from '../../xen/errno.js';
import { FIRST_RESERVED_GDT_ENTRY, FLAT_KERNEL_CS64 } from '../../xen/paging.js';
import type { CallState } from '../calls/call-state.js';
import type { MemoryState, MmuState } from '../mmu/mmu-state.js';
import type { VcpuContext } from './vcpu-context.js';

export const SEGMENT_TYPE = 0xf00;
export const SEGMENT_CODE = 0x800;
export const SEGMENT_EC = 0x400;
export const SEGMENT_WR = 0x200;
export const SEGMENT_S = 0x1000;
export const SEGMENT_DPL = 0x6000;
export const SEGMENT_P = 0x8000;
export const SEGMENT_L = 0x20_0000;
export const SEGMENT_DB = 0x40_0000;
export const SEGMENT_G = 0x80_0000;

/** Xen's descriptors, by index: flat ring 3 code 32, data 32, code 64, and the others in that page. */
const XEN_DESCRIPTORS = new Map<number, readonly [number, number]>([
  [0xe008 >> 3, [0x0000ffff, 0x00af9b00]],
  [0xe010 >> 3, [0x0000ffff, 0x00cf9300]],
  [0xe020 >> 3, [0x0000ffff, 0x00cffb00]],
  [0xe028 >> 3, [0x0000ffff, 0x00cff300]],
  [0xe030 >> 3, [0x0000ffff, 0x00affb00]],
  [0xe038 >> 3, [0x0000ffff, 0x00cf9b00]],
]);

/** Raises a selector's or descriptor's privilege level to the guest kernel's, 3. */
export const fixupSelector = (selector: number): number => (selector & 0xffff) | 3;

/** The two halves of the descriptor that was read last. */
export const descriptor = { a: 0, b: 0 };

/**
 * Reads the descriptor that a selector names into `descriptor`. Returns false if there is none, because it is outside
 * the table or its memory cannot be read.
 */
export function readDescriptor(d: MemoryState, v: VcpuContext, selector: number): boolean {
  const index = selector >>> 3;
  descriptor.a = descriptor.b = 0;
  if (selector & 4) {
    if (index >= v.ldtEnts) return false;
    const at = d.engine.translate(v.id, v.ldtBase + 8 * index, Intent.asKernel);
    if (at < 0) return false;
    return sanitised(d.mem.getU32(at), d.mem.getU32(at + 4));
  }
  if (index >= FIRST_RESERVED_GDT_ENTRY) {
    const own = XEN_DESCRIPTORS.get(index);
    if (own === undefined) return false;
    [descriptor.a, descriptor.b] = own;
    return true;
  }
  if (index >= v.gdtEnts) return false;
  const frame = d.ram.frameOf(v.gdtFrames[index >>> 9]);
  const at = d.ram.linearOf(frame) + 8 * (index & 511);
  return sanitised(d.mem.getU32(at), d.mem.getU32(at + 4));
}

/** The table's page may have been written since it was checked, so a descriptor is checked again when it is used. */
function sanitised(a: number, b: number): boolean {
  const ok = checkDescriptor(a, b);
  if (!ok) descriptor.a = descriptor.b = 0;
  return ok;
}

/** Checks a descriptor and writes the corrected one into `descriptor`. Returns false if Xen refuses it. */
export function checkDescriptor(a: number, b: number): boolean {
  descriptor.a = a;
  descriptor.b = b;
  if (!(b & SEGMENT_P)) return true;
  const dpl = 3;
  const fixed = (b & ~SEGMENT_DPL) | (dpl << 13);
  if (fixed & SEGMENT_S) {
    descriptor.b = fixed >>> 0;
    return true;
  }
  if ((fixed & SEGMENT_TYPE) === 0) return true;
  if ((fixed & SEGMENT_TYPE) !== 0xc00) return false;
  // A call gate: it may only lead to the guest's own code, and gets privilege level 0, so that using it faults.
  const cs = a >>> 16;
  const ownCode = cs >>> 3 < FIRST_RESERVED_GDT_ENTRY || cs === FLAT_KERNEL_CS64 || (cs & 4) !== 0;
  if (!ownCode || fixed & 0xff) return false;
  descriptor.a = ((a & 0xffff) | (((cs & ~3) | dpl) << 16)) >>> 0;
  descriptor.b = (fixed & ~SEGMENT_DPL) >>> 0;
  return true;
}

/** Checks a whole page of descriptors and writes the corrected ones back, as validate_segdesc_page does. */
function validatePage(d: MemoryState, frame: number): boolean {
  const at = d.ram.linearOf(frame);
  for (let i = 0; i < 512; i++) {
    const a = d.mem.getU32(at + 8 * i);
    const b = d.mem.getU32(at + 8 * i + 4);
    if (!(b & SEGMENT_P)) continue;
    if (!checkDescriptor(a, b)) return false;
    if (descriptor.a !== a || descriptor.b !== b) {
      d.mem.setU32(at + 8 * i, descriptor.a);
      d.mem.setU32(at + 8 * i + 4, descriptor.b);
      d.engine.touch(at + 8 * i);
    }
  }
  return true;
}

/** Sets a vCPU's GDT from the MFNs in `frames`. Returns 0 or -EINVAL. */
export function setGdtFrames(d: MmuState, v: VcpuContext, frames: Float64Array, entries: number): number {
  if (entries > FIRST_RESERVED_GDT_ENTRY) return -EINVAL;
  const count = Math.ceil(entries / 512);
  for (let i = 0; i < count; i++) {
    const frame = d.tables.guestFrame(frames[i]);
    if (frame < 0 || d.frames.type[frame] !== 0 || !validatePage(d, frame)) return -EINVAL;
  }
  v.gdtFrames.fill(0);
  for (let i = 0; i < count; i++) v.gdtFrames[i] = frames[i];
  v.gdtEnts = entries;
  return 0;
}

const listed = new Float64Array(16);

/** HYPERVISOR_set_gdt(frame_list, entries). */
export function setGdt(d: CallState & MmuState): number {
  const entries = d.args.lo[1];
  if (entries > FIRST_RESERVED_GDT_ENTRY) return -EINVAL;
  const count = Math.ceil(entries / 512);
  if (!d.guest.copyIn(d.current.id, d.args.long(0), 8 * count)) return -EFAULT;
  for (let i = 0; i < count; i++) listed[i] = d.guest.buffer.getS64(8 * i);
  return setGdtFrames(d, d.current, listed, entries);
}

/** HYPERVISOR_update_descriptor(machine address, descriptor). */
export function updateDescriptor(d: CallState & MmuState): number {
  const { lo, hi } = d.args;
  if (lo[0] & 7 || !checkDescriptor(lo[1], hi[1] >>> 0)) return -EINVAL;
  const { a, b } = descriptor;
  const frame = d.tables.guestFrame((hi[0] >>> 0) * 0x10_0000 + (lo[0] >>> 12));
  if (frame < 0 || d.frames.type[frame] !== 0) return -EINVAL;
  const at = d.ram.linearOf(frame) + (lo[0] & 4095);
  d.mem.setU32(at, a);
  d.mem.setU32(at + 4, b);
  d.engine.touch(at);
  return 0;
}
