/** Xen's CPUID leaves (`arch-x86/cpuid.h`). A PV guest reaches them with forced emulation. */

export const XEN_CPUID_FIRST_LEAF = 0x40000000;
export const XEN_CPUID_MAX_NUM_LEAVES = 5;
/** "XenVMMXenVMM" in ebx, ecx and edx of the first leaf. */
export const XEN_CPUID_SIGNATURE_EBX = 0x566e6558;
export const XEN_CPUID_SIGNATURE_ECX = 0x65584d4d;
export const XEN_CPUID_SIGNATURE_EDX = 0x4d4d566e;

/** Leaf 2, ecx: MMU_PT_UPDATE_PRESERVE_AD is available. */
export const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD = 1 << 0;

/** Leaf 3, sub-leaf 0, eax: the TSC is emulated. The other constants are values of the TSC mode in ebx. */
export const XEN_CPUID_TIME_VTSC = 1 << 0;
export const TSC_MODE_DEFAULT = 0;
export const TSC_MODE_ALWAYS_EMULATE = 1;
export const TSC_MODE_NEVER_EMULATE = 2;

/** Leaf 5, ebx: width of machine addresses. */
export const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK = 0xff;

/** The bytes in front of an instruction that Xen should emulate: `ud2`, then "xen". */
export const XEN_EMULATE_PREFIX: readonly number[] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];
