/**
 * CR0 and CR4 as a PV guest has them: which bits are the processor's, which the guest may change, and what it reads.
 * Source: pv_make_cr4, pv_fixup_guest_cr4 of xen/arch/x86/pv/domain.c; read_cr of emul-priv-op.c.
 */
import type { VcpuContext } from './vcpu-context.js';

export const CR0_TS = 8;
/** PG, AM, WP, NE, ET, MP, PE. They belong to the processor, and a guest cannot change them. */
export const CR0_FIXED = 0x8005_0033;
const CR4_TSD = 4;
export const CR4_DE = 8;
/** The bits of the processor's CR4 that a guest sees: PAE, MCE, OSFXSR, OSXMMEXCPT. */
const CR4_VISIBLE = 0x660;

/** The CR4 that a guest gets if it writes `value`. */
export const fixupCr4 = (value: number): number => (value & (CR4_TSD | CR4_DE)) | CR4_VISIBLE;

/** CR0 as the guest reads it. */
export const guestCr0 = (v: VcpuContext): number => CR0_FIXED + (v.cpu.cr0 & CR0_TS);

/** Sets or clears CR0.TS: the next floating-point instruction raises #NM while it is set. */
export function setTaskSwitched(v: VcpuContext, set: boolean): void {
  v.cpu.cr0 = set ? v.cpu.cr0 | CR0_TS : v.cpu.cr0 & ~CR0_TS;
}

/** Sets CR4 as the guest reads it, and as the engine obeys it. */
export function setCr4(v: VcpuContext, cr4: number): void {
  v.cr4 = cr4;
  v.cpu.cr4 = cr4;
}
