/** Where everything is in the one linear memory, and in a vCPU's state. Mirrors the constants of core/index.ts. */

export const PAGE = 4096;
/** Machine frame number of the first frame: MFN = PFN + this. */
export const MFN_BASE = 0x100000;

export const CPU_BASE = 0x10000;
export const CPU_BYTES = 0x1000;
/** Frame tables (dirty bytes, code bytes) start here; then decoded code, then the frames. */
export const META_BASE = 0x200000;
/** Page-table entries of L4 slots 256 to 271, which belong to Xen. */
export const XEN_SLOTS = 0x1f0000;

/** Offsets in a vCPU's state. */
export const Cpu = {
  rip: 0x090,
  otherFlags: 0x098,
  ccKind: 0x0a0,
  ccResult: 0x0a8,
  userMode: 0x0c0,
  exitReason: 0x0c4,
  exitVector: 0x0c8,
  exitErrorCode: 0x0cc,
  exitCr2: 0x0d0,
  exitLength: 0x0d8,
  exitSoftware: 0x0dc,
  retired: 0x0e0,
  fsBase: 0x0e8,
  gsBase: 0x0f0,
  gsBaseOther: 0x0f8,
  cr3Kernel: 0x100,
  cr3User: 0x108,
  cr0: 0x110,
  cr2: 0x118,
  cr4: 0x120,
  dr: 0x128,
  /** es, cs, ss, ds, fs, gs: 16 bits each. */
  selectors: 0x168,
  generation: 0x178,
  faultCode: 0x180,
  faultAddress: 0x188,
  requestExit: 0x190,
  xmm: 0x200,
  mxcsr: 0x300,
  st: 0x310,
  fcw: 0x390,
  fsw: 0x392,
  ftw: 0x394,
  fop: 0x396,
  fip: 0x398,
  fdp: 0x3a0,
  scratch: 0x400,
  end: 0x600,
} as const;
