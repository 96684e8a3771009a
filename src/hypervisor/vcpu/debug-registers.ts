/**
 * Debug registers: what a guest may write into them, with a hypercall or with MOV.
 * Source: set_debugreg of xen/arch/x86/pv/misc-hypercalls.c, x86emul_read_dr; Intel SDM volume 3, 17.2.
 */
import { EINVAL, ENODEV, EPERM } from '../../xen/errno.js';
import type { CallState } from '../calls/call-state.js';
import { addressOk } from '../mmu/guest-memory.js';
import type { VcpuContext } from './vcpu-context.js';

export const DR6_DEFAULT = 0xffff_0ff0;
export const DR7_DEFAULT = 0x0000_0400;
const CR4_DE = 8;
const DR6_ZERO = 0x1000;
/** The bits of DR7 that a guest may set. Bit 10 reads as one. */
const DR7_KEEP = 0xffff_27ff;
const GENERAL_DETECT = 0x2000;
const ACTIVE = 0xff;
const RW_IO = 2;

/**
 * Returns 0, -ENODEV (#UD), -EINVAL or -EPERM (#GP). The value is given as halves, and for addresses also as `value`.
 */
export function setDebugreg(v: VcpuContext, reg: number, value: number, lo: number, hi: number): number {
  const { cpu } = v;
  switch (reg) {
    case 0:
    case 1:
    case 2:
    case 3:
      if (!addressOk(value)) return -EPERM;
      cpu.setDr(reg, value);
      return 0;
    case 4:
    case 6:
      if (reg === 4 && v.cr4 & CR4_DE) return -ENODEV;
      if (hi !== 0) return -EINVAL;
      cpu.setDr(6, ((lo & ~DR6_ZERO) | DR6_DEFAULT) >>> 0);
      return 0;
    case 5:
    case 7: {
      if (reg === 5 && v.cr4 & CR4_DE) return -ENODEV;
      if (hi !== 0) return -EINVAL;
      let dr7 = ((lo & DR7_KEEP) | DR7_DEFAULT) >>> 0;
      if (dr7 & GENERAL_DETECT) return -EPERM;
      let io = 0;
      if (dr7 & ACTIVE) {
        for (let i = 0; i < 4; i++) {
          if (((dr7 >>> (16 + 4 * i)) & 3) !== RW_IO) continue;
          if (!(v.cr4 & CR4_DE)) return -EPERM;
          io |= dr7 & (3 << (2 * i));
        }
        dr7 = (dr7 & ~io) >>> 0;
      }
      v.dr7Emul = io;
      cpu.setDr(7, dr7);
      return 0;
    }
    default:
      return -ENODEV;
  }
}

/** The value as the guest reads it, or undefined for a register that does not exist (#UD). */
export function getDebugreg(v: VcpuContext, reg: number): number | undefined {
  switch (reg) {
    case 0:
    case 1:
    case 2:
    case 3:
      return v.cpu.dr(reg);
    case 4:
      if (v.cr4 & CR4_DE) return undefined;
      return v.cpu.dr(6);
    case 6:
      return v.cpu.dr(6);
    case 5:
      if (v.cr4 & CR4_DE) return undefined;
      return (v.cpu.dr(7) | v.dr7Emul) >>> 0;
    case 7:
      return (v.cpu.dr(7) | v.dr7Emul) >>> 0;
    default:
      return undefined;
  }
}

/** HYPERVISOR_set_debugreg(reg, value). */
export const setDebugregOp = (d: CallState): number =>
  setDebugreg(d.current, d.args.int(0), d.args.long(1), d.args.lo[1], d.args.hi[1]);

/** HYPERVISOR_get_debugreg(reg). */
export const getDebugregOp = (d: CallState): number => getDebugreg(d.current, d.args.int(0)) ?? -ENODEV;
