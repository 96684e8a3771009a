// Where the floating-point state of a vCPU is, relative to the vCPU's base address, and how its words are read. SDM
// volume 1, chapters 8 (x87), 9 (MMX), 10 and 11 (SSE, SSE2).

export const XMM: usize = 0x200; // 16 registers of 16 bytes
export const MXCSR: usize = 0x300; // u32
export const ST: usize = 0x310; // 8 physical registers, 16 bytes apart, 10 used; MMn is the low 8 of n
export const FCW: usize = 0x390; // u16
export const FSW: usize = 0x392; // u16, TOP included
export const FTW: usize = 0x394; // u8, one bit a physical register: 1 holds a value
export const FOP: usize = 0x396; // u16
export const FIP: usize = 0x398; // u64
export const FDP: usize = 0x3a0; // u64
// The engine writes these before an x87 operation: address of the instruction and of its operand.
export const NOW_IP: usize = 0x3a8; // u64
export const NOW_DP: usize = 0x3b0; // u64
export const NOW_SELECTORS: usize = 0x6b8; // u32: of code, in the upper half of the operand
// The engine writes rflags here before an operation that reads or writes flags, and reads them back after it.
export const EFLAGS: usize = 0x3b8; // u32
export const FCS: usize = 0x3bc; // u16: code selector of the last x87 instruction
export const FDS: usize = 0x3be; // u16: data selector
export const SCRATCH: usize = 0x400; // 512 bytes

export const IE: u32 = 1;
export const DE: u32 = 2;
export const ZE: u32 = 4;
export const OE: u32 = 8;
export const UE: u32 = 16;
export const PE: u32 = 32;
export const SF: u32 = 64; // x87 only: stack fault
export const ES: u32 = 0x8080; // x87 only: an unmasked exception is pending (with B, its copy)
export const C0: u32 = 0x100;
export const C1: u32 = 0x200;
export const C2: u32 = 0x400;
export const C3: u32 = 0x4000;

export const MXCSR_MASK: u32 = 0xffff; // with DAZ, without AMD's misaligned SSE mode

export const VECTOR_UD: i32 = 6;
export const VECTOR_GP: i32 = 13;
export const VECTOR_MF: i32 = 16;
export const VECTOR_XM: i32 = 19;
// Not a fault: the instruction is complete, but nothing is stored and fpCommit is not called.
export const NO_STORE: i32 = -1;
