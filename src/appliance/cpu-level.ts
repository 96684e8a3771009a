/**
 * `cpuid =` for a helper domain that moves between hosts of unlike processors: what x86-64-v2 does not have is hidden, so
 * that no program in the domain uses an instruction that the next host may lack.
 *
 * The form is xl's list of leaves with 32 characters for each register, the highest bit first: "x" leaves a bit as it
 * would be, "0" clears it. Names of features are not used, because each version of Xen knows others. Leaves from 7 on are
 * hidden as a whole, by the number of the last leaf, because xl refuses to change a leaf that a host does not have.
 * Source: x86-64 psABI, table of micro-architecture levels; Xen, docs/man/xl.cfg.5.pod (cpuid); Intel SDM, CPUID.
 */

const EVERY_BIT = Array.from({ length: 32 }, (_, bit) => bit);

/** "x" for these bits, "0" for all others. */
const only = (bits: readonly number[]): string =>
  EVERY_BIT.map((bit) => (bits.includes(31 - bit) ? 'x' : '0')).join('');
const allBut = (bits: readonly number[]): string => only(EVERY_BIT.filter((bit) => !bits.includes(bit)));

/** The last leaf of which every processor of the level has all before it. */
const LAST_LEAF = 6;

/** Leaf 1, ecx: SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, x2APIC, POPCNT, TSC deadline, hypervisor. */
const LEAF_1_ECX = [0, 9, 13, 19, 20, 21, 23, 24, 31];
/** Leaf 0x80000001, ecx: LAHF and SAHF in long mode, and how cores are counted. */
const EXTENDED_ECX = [0, 1];
/** Leaf 0x80000001, edx: AMD's MMX extensions, fast FXSAVE, pages of 1 GiB, RDTSCP, 3DNow!. */
const NOT_EXTENDED_EDX = [22, 25, 26, 27, 30, 31];

export const CPU_LEVELS = {
  v2: [
    `0x0:eax=${LAST_LEAF.toString(2).padStart(32, '0')}`,
    `0x1:ecx=${only(LEAF_1_ECX)}`,
    `0x80000001:ecx=${only(EXTENDED_ECX)},edx=${allBut(NOT_EXTENDED_EDX)}`,
    `0x80000008:ebx=${only([])}`,
  ],
} as const satisfies Record<string, readonly string[]>;

export type CpuLevel = keyof typeof CPU_LEVELS;
