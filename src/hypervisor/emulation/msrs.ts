/**
 * Model-specific registers as an unprivileged PV guest with the frozen profile (an AMD processor) reads and writes
 * them: constants, the segment bases, or #GP. Nothing here comes from a host.
 * Source: read_msr, write_msr of xen/arch/x86/pv/emul-priv-op.c; guest_rdmsr, guest_wrmsr of arch/x86/msr.c; vmce.c
 * for machine checks.
 */
import { isCanonical } from '../mmu/guest-memory.js';
import type { ClockState } from '../time/time-state.js';
import { TRAP_gp_fault } from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';

const MSR_IA32_TSC = 0x10;
const MSR_APIC_BASE = 0x1b;
const MSR_UCODE_REV = 0x8b;
const MSR_PLATFORM_INFO = 0xce;
const MSR_MISC_FEATURES_ENABLES = 0x140;
const MSR_MCG_CAP = 0x179;
const MSR_MCG_STATUS = 0x17a;
const MSR_PAT = 0x277;
const MSR_PERF_CAPABILITIES = 0x345;
const MSR_MC0_CTL = 0x400;
const MSR_EFER = 0xc000_0080;
const MSR_FS_BASE = 0xc000_0100;
const MSR_GS_BASE = 0xc000_0101;
const MSR_SHADOW_GS_BASE = 0xc000_0102;
const MSR_K8_HWCR = 0xc001_0015;
const MSR_AMD64_NB_CFG = 0xc001_001f;
const MSR_K7_FID_VID_CTL = 0xc001_0041;
const MSR_K7_FID_VID_STATUS = 0xc001_0042;
const MSR_K8_PSTATE_LIMIT = 0xc001_0061;
const MSR_K8_PSTATE7 = 0xc001_006b;
const MSR_AMD64_DE_CFG = 0xc001_1029;

/** How many banks of machine-check registers Xen gives a guest. */
const GUEST_MC_BANK_NUM = 2n;
const XEN_MSR_PAT = 0x0000_0501_0007_0406n;
/** LFENCE serialises. */
const DE_CFG = 2n;
/** SCE, LME, LMA, NX. */
export const GUEST_EFER = 0xd01n;
const MICROCODE = 0x0100_0065n;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

/** Registers that the processor has but that the guest may not read: 0 as long as there is no #GP handler. */
const present = (msr: number): boolean =>
  (msr >= 0x174 && msr <= 0x176) ||
  msr === 0xfe ||
  (msr >= 0x200 && msr <= 0x26f) ||
  msr === 0x2ff ||
  msr === 0x1d9 ||
  (msr >= 0xc000_0081 && msr <= 0xc000_0084) ||
  msr === 0xc001_0010 ||
  (msr >= 0xc001_0016 && msr <= 0xc001_001d);

const isPerfCounter = (msr: number): boolean =>
  (msr >= 0xc001_0000 && msr <= 0xc001_0007) || (msr >= 0xc001_0200 && msr <= 0xc001_020b);
const isPstate = (msr: number): boolean =>
  msr === MSR_K7_FID_VID_CTL ||
  msr === MSR_K7_FID_VID_STATUS ||
  (msr >= MSR_K8_PSTATE_LIMIT && msr <= MSR_K8_PSTATE7);
const isMachineCheckBank = (msr: number): boolean => msr >= MSR_MC0_CTL && msr <= 0x47f;

/** The register's value, or undefined for #GP. */
export function readMsr(d: ClockState, v: VcpuContext, msr: number): bigint | undefined {
  switch (msr) {
    case MSR_FS_BASE:
      return BigInt.asUintN(64, BigInt(v.cpu.fsBase));
    case MSR_GS_BASE:
      return BigInt.asUintN(64, BigInt(v.cpu.gsBase));
    case MSR_SHADOW_GS_BASE:
      return BigInt.asUintN(64, BigInt(v.cpu.gsBaseOther));
    case MSR_IA32_TSC:
      return BigInt(d.clock.now());
    case MSR_EFER:
      return GUEST_EFER;
    case MSR_APIC_BASE:
      return 0xfee0_0800n | (v.id === 0 ? 0x100n : 0n);
    case MSR_UCODE_REV:
      return MICROCODE;
    case MSR_PAT:
      return XEN_MSR_PAT;
    case MSR_MCG_CAP:
      return GUEST_MC_BANK_NUM;
    case MSR_AMD64_DE_CFG:
      return DE_CFG;
    case MSR_MCG_STATUS:
    case MSR_PLATFORM_INFO:
    case MSR_MISC_FEATURES_ENABLES:
    case MSR_PERF_CAPABILITIES:
    case MSR_K8_HWCR:
    case MSR_AMD64_NB_CFG:
      return 0n;
  }
  if (isMachineCheckBank(msr))
    return (msr & 3) === 0 && (msr - MSR_MC0_CTL) / 4 < GUEST_MC_BANK_NUM ? ALL_ONES : 0n;
  if (isPstate(msr) || isPerfCounter(msr)) return 0n;
  if (v.trapAddress[TRAP_gp_fault] === 0 && present(msr)) return 0n;
  return undefined;
}

/** Returns true if the write was done or ignored, false for #GP. */
export function writeMsr(v: VcpuContext, msr: number, value: bigint): boolean {
  switch (msr) {
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_SHADOW_GS_BASE: {
      const base = Number(BigInt.asIntN(64, value));
      if (!isCanonical(base)) return false;
      if (msr === MSR_FS_BASE) v.cpu.fsBase = base;
      else if (msr === MSR_GS_BASE) v.cpu.gsBase = base;
      else v.cpu.gsBaseOther = base;
      return true;
    }
    case MSR_EFER:
      return value === GUEST_EFER;
    case MSR_UCODE_REV:
    case MSR_MCG_STATUS:
    case MSR_K8_HWCR:
    case MSR_AMD64_NB_CFG:
    case MSR_AMD64_DE_CFG:
    case 0xe7: // MPERF
    case 0xe8: // APERF
      return true;
    case MSR_MISC_FEATURES_ENABLES:
      return value === 0n;
  }
  return isMachineCheckBank(msr) || isPstate(msr) || isPerfCounter(msr);
}
