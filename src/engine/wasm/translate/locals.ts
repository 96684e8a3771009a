/** The locals of a translated region's function. Its only parameter is the vCPU's linear address. */
export const CPU = 0;

/** i32. */
export const TLB_BASE = 1;
/** The instructions that are left after those of the present block. */
export const LEFT = 2;
/** The value that the function will return. */
export const RESULT = 3;
export const ENTRY = 4;
/** A linear address that was found in a TLB. */
export const HOST = 5;
export const N1 = 6;
export const N2 = 7;
export const N3 = 8;
/** Lazy flags: see core/flags.ts. */
export const FLAGS_KIND = 9;
export const FLAGS_C = 10;
/** The number to add to a guest address in STACK_PAGE to get its linear address. */
export const STACK_HOST = 11;
export const I32_LOCALS = 11;

/** i64. */
export const REGISTER_0 = 12;
/** Guest address of the region's first instruction. */
export const REGION_VA = 28;
export const TAG = 29;
/** The upper half of the second word of a valid jump cache entry. */
export const JUMPS = 30;
export const FLAGS_A = 31;
export const FLAGS_B = 32;
export const FLAGS_R = 33;
/** The guest address of the present access. */
export const VA = 34;
export const W1 = 35;
export const W2 = 36;
export const W3 = 37;
export const W4 = 38;
/** The page that was last written through rsp; 1 if there is none. */
export const STACK_PAGE = 39;
export const I64_LOCALS = 28;

/** v128. */
export const V1 = 40;
export const V128_LOCALS = 1;
