/**
 * Where everything of a differential run lies: the same addresses natively and in the machine, below 2 GiB so
 * that 32-bit displacements and address sizes reach them. And the block of registers that both sides fill.
 *
 *     CODE   sequences, readable and executable (natively also the trampoline, before them)
 *     DATA   two writable pages, then a read-only one; unmapped before and after
 */

export const TRAMPOLINE = 0x6000_0000;
export const TRAMPOLINE_BYTES = 0x2_0000;
export const CODE = 0x6002_0000;
export const CODE_BYTES = 0x8_0000;
export const DATA = 0x7000_0000;
export const WRITABLE_BYTES = 0x2000;
export const DATA_BYTES = 0x3000;
/** Images of fnsave, fldenv, fxsave and their like live here, and nothing else does. */
export const IMAGES = DATA + 0x400;
export const IMAGES_BYTES = 0x800;
export const STACK = DATA + 0x1800;
/** Segment bases of every sequence; the large one makes effective addresses negative. */
export const FS_BASE = 0x12_3000;
export const GS_BASE = 0x7eee_0000_0000;

/** Offsets in a block of registers. */
export const BLOCK = {
  gpr: 0,
  rflags: 0x80,
  rip: 0x88,
  /** 0: the sequence ran to its end; otherwise the number of the host's signal. */
  signal: 0x90,
  vector: 0x98,
  error: 0xa0,
  cr2: 0xa8,
  /** RF in the flags that the fault saved. */
  resume: 0xb0,
  /**
   * Selectors for compatibility mode, u16 each: cs, es, ss, ds, fs, gs. With cs 0 the code is 64-bit and segments stay
   * as they are.
   */
  selectors: 0xb8,
  fxsave: 0x100,
  bytes: 0x300,
} as const;

/** A result: the block, and the two writable pages as they are afterwards. */
export const RESULT_BYTES = BLOCK.bytes + WRITABLE_BYTES;

/** RFLAGS bits that a sequence can change and on which both sides must agree: status flags, DF, NT, AC, ID. */
export const FLAGS_COMPARED = 0x24_4cd5;

/** The number of sequences that share one data window and one native call. */
export const BATCH = 1000;
