/** Register numbers of the machine's register file, and its address for copies of all 64 bits. */
import type { VcpuContext } from './vcpu-context.js';

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RSI = 6;
export const RDI = 7;
export const R10 = 10;
export const R11 = 11;

/** Linear address of the register file: register i is the 8 bytes at 8*i. */
export const gprAddress = (v: VcpuContext): number => v.cpu.gprs;
