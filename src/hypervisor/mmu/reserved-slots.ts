/**
 * L4 slots 256 to 271: the entries that Xen puts into every top table, in the guest's own memory. The guest can read
 * the entries but never change them. Through the entry of the machine-to-physical table it can read that table; the
 * others lack USER, so neither its kernel nor its user mode can use them.
 *
 * On a real machine the entries name frames of the host, which are different after a move. Here they are the same on
 * every host and in every engine. Those for things that only Xen uses name frames far below the guest's first one; an
 * engine whose own code must be reachable through the guest's tables puts it there.
 * Source: init_xen_l4_slots of xen/arch/x86/mm.c; the map of the address space in asm/config.h; the flags
 * __PAGE_HYPERVISOR, _RO and _RW of asm/page.h.
 */
import { PTE_ACCESSED, PTE_DIRTY, PTE_NX_HI, PTE_PRESENT, PTE_RW, PTE_USER } from '../../xen/paging.js';

/** The machine-to-physical table, read-only. The slot is blank in tables of user mode. */
export const READ_ONLY_M2P_SLOT = 256;
/** The top table itself: Xen uses it for linear page tables. */
export const LINEAR_SLOT = 258;
/** Xen's mappings for this domain: descriptor tables and temporary mappings of frames. */
const PER_DOMAIN_SLOT = 260;
/** Xen's own code and data. */
const XEN_SLOT = 261;
/** All of the machine's memory, the first 512 GiB. */
const DIRECT_MAP_SLOT = 262;

/** The frames that these slots name. An engine may have something there, or nothing at all. */
const PER_DOMAIN_L3_MFN = 0x10;
const XEN_L3_MFN = 0x11;
const DIRECT_MAP_L3_MFN = 0x12;

const READ_ONLY = PTE_PRESENT | PTE_ACCESSED;
const WRITABLE = READ_ONLY | PTE_DIRTY | PTE_RW;

/** Lower and upper half of an entry: a frame, flags of the lower half, NX or 0. */
export interface ReservedEntry {
  readonly slot: number;
  readonly lo: number;
  readonly hi: number;
}

const entry = (slot: number, mfn: number, flags: number, high: number): ReservedEntry => ({
  slot,
  lo: ((mfn << 12) | flags) >>> 0,
  hi: ((mfn >>> 20) | high) >>> 0,
});

/** The entry that shows the machine-to-physical table whose L3 table is at this machine frame. */
export const m2pEntry = (l3Mfn: number): ReservedEntry =>
  entry(READ_ONLY_M2P_SLOT, l3Mfn, READ_ONLY | PTE_USER, PTE_NX_HI);

/** Entries that are the same in every top table. Slots that this file does not name are blank. */
export const SHARED_ENTRIES: readonly ReservedEntry[] = [
  entry(PER_DOMAIN_SLOT, PER_DOMAIN_L3_MFN, WRITABLE, PTE_NX_HI),
  entry(XEN_SLOT, XEN_L3_MFN, WRITABLE, 0),
  entry(DIRECT_MAP_SLOT, DIRECT_MAP_L3_MFN, WRITABLE, 0),
];

/** The halves of the entry in LINEAR_SLOT of the top table at this machine frame. */
export const linearLo = (topMfn: number): number => (topMfn << 12) | WRITABLE;
export const linearHi = (topMfn: number): number => (topMfn >>> 20) | PTE_NX_HI;
