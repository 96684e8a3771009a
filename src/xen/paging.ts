/**
 * Page-table entries as x86 defines them (Intel SDM volume 3, section 4.5), and the parts of the address space and of
 * the descriptor table that belong to Xen (`arch-x86/xen-x86_64.h`).
 *
 * Addresses are signed numbers, as LinearMemory.getS64 reads them.
 */

export const PTE_PRESENT = 1 << 0;
export const PTE_RW = 1 << 1;
export const PTE_USER = 1 << 2;
export const PTE_PWT = 1 << 3;
export const PTE_PCD = 1 << 4;
export const PTE_ACCESSED = 1 << 5;
export const PTE_DIRTY = 1 << 6;
/** Page size in L2 and L3 entries, PAT in L1 entries. */
export const PTE_PSE = 1 << 7;
export const PTE_PAT = 1 << 7;
export const PTE_GLOBAL = 1 << 8;
/** Free for software. */
export const PTE_AVAIL = 0xe00;
/**
 * Bit 52, in the high half. Xen uses it in L1 entries (_PAGE_GUEST_KERNEL) to tell a page of the guest's kernel from
 * a page of its user mode, because USER is set for both.
 */
export const PTE_GUEST_KERNEL_HI = 0x0010_0000;
/** No-execute: bit 31 of the high half. */
export const PTE_NX_HI = 0x8000_0000;
/** The part of the frame number in the high half: bits 32 to 51 of the entry. */
export const PTE_FRAME_HI_MASK = 0x000f_ffff;
export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
export const ENTRIES_PER_TABLE = 512;

/**
 * Xen's part of the address space. The read-only machine-to-physical table, with 8 bytes for each frame, is at its
 * start.
 */
export const HYPERVISOR_VIRT_START = -0x800000000000;
export const HYPERVISOR_VIRT_END = -0x780000000000;
export const MACH2PHYS_VIRT_START = -0x800000000000;
export const MACH2PHYS_VIRT_END = -0x7fc000000000;
export const MACH2PHYS_NR_ENTRIES = 0x800000000;
/** The L4 slots that belong to Xen: the first one, and the one after the last. */
export const HYPERVISOR_L4_FIRST = 256;
export const HYPERVISOR_L4_END = 272;

/** Selectors of Xen's own descriptors. A guest may load them without a descriptor table of its own. */
export const FLAT_RING3_CS32 = 0xe023;
export const FLAT_RING3_CS64 = 0xe033;
export const FLAT_RING3_DS32 = 0xe02b;
export const FLAT_RING3_DS64 = 0x0;
export const FLAT_RING3_SS32 = 0xe02b;
export const FLAT_RING3_SS64 = 0xe02b;
export const FLAT_KERNEL_DS64 = 0x0;
export const FLAT_KERNEL_CS64 = 0xe033;
export const FLAT_KERNEL_SS64 = 0xe02b;
export const FLAT_USER_DS64 = 0x0;
export const FLAT_USER_CS32 = 0xe023;
export const FLAT_USER_SS32 = 0xe02b;
export const FLAT_USER_CS64 = 0xe033;
export const FLAT_USER_SS64 = 0xe02b;
/** How Xen marks a kernel code segment in a frame that it pushes: the same selector with RPL 0. */
export const FLAT_RING0_CS64 = 0xe030;

/** Xen's descriptors start here. A guest's own table may have 14 pages. */
export const FIRST_RESERVED_GDT_PAGE = 14;
export const FIRST_RESERVED_GDT_BYTE = 57344;
export const FIRST_RESERVED_GDT_ENTRY = 7168;
