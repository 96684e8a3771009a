/**
 * The identity of the hypervisor and the processor: one frozen profile, "virtual Xen 4.17", which is chosen at
 * power-on and saved with the guest. Nothing in it comes from a host, so a move changes nothing of it.
 * Source: what Debian's Xen 4.17 reports to its guests (strings, feature word); cpuid_hypervisor_leaves of
 * xen/arch/x86/traps.c; x86-64 baseline of the psABI for the processor's features.
 */
import { type CpuidEntry, lookupCpuid } from '../engine/cpuid.js';
import { list, struct, text, u32 } from '../records/fields.js';
import { recordType } from '../records/record.js';
import {
  XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
  XEN_CPUID_FIRST_LEAF,
  XEN_CPUID_MAX_NUM_LEAVES,
  XEN_CPUID_SIGNATURE_EBX,
  XEN_CPUID_SIGNATURE_ECX,
  XEN_CPUID_SIGNATURE_EDX,
} from '../xen/cpuid.js';
import {
  XENFEAT_direct_mapped,
  XENFEAT_gnttab_map_avail_bits,
  XENFEAT_highmem_assist,
  XENFEAT_memory_op_vnode_supported,
  XENFEAT_mmu_pt_update_preserve_ad,
  XENFEAT_pae_pgdir_above_4gb,
} from '../xen/version.js';

/** The TSC counts virtual nanoseconds: 1 GHz. */
const TSC_KHZ = 1_000_000;

const leafFields = struct({
  leaf: [u32, 'eax asked for'],
  subleaf: [u32, 'ecx asked for'],
  eax: [u32, 'eax answered'],
  ebx: [u32, 'ebx answered'],
  ecx: [u32, 'ecx answered'],
  edx: [u32, 'edx answered'],
});

export const identityRecord = recordType('IDEN', 1, 'the frozen profile of hypervisor and processor', {
  major: [u32, 'XENVER_version, high half'],
  minor: [u32, 'XENVER_version, low half'],
  extraversion: [text, 'XENVER_extraversion'],
  compiler: [text, 'XENVER_compile_info'],
  compileBy: [text, 'XENVER_compile_info'],
  compileDomain: [text, 'XENVER_compile_info'],
  compileDate: [text, 'XENVER_compile_info'],
  capabilities: [text, 'XENVER_capabilities'],
  changeset: [text, 'XENVER_changeset'],
  features: [u32, 'XENVER_get_features, submap 0'],
  cpuid: [list(leafFields), 'all CPUID leaves; others answer as the highest basic leaf does'],
});

export interface XenIdentity {
  major: number;
  minor: number;
  extraversion: string;
  compiler: string;
  compileBy: string;
  compileDomain: string;
  compileDate: string;
  capabilities: string;
  changeset: string;
  features: number;
  cpuid: CpuidEntry[];
}

export interface IdentityState {
  readonly identity: XenIdentity;
}

/** By which names the domain is known. */
export interface OwnIdState {
  readonly domid: number;
  readonly uuid: Uint8Array;
  /** Whether the id names this domain: its own id, or DOMID_SELF. */
  isSelf(domid: number): boolean;
}

const bits = (...all: number[]): number => all.reduce((word, bit) => word + 2 ** bit, 0);
const word = (s: string): number => [...s].reduce((sum, c, i) => sum + c.charCodeAt(0) * 2 ** (8 * i), 0);
const leaf = (n: number, eax: number, ebx: number, ecx: number, edx: number, subleaf = 0): CpuidEntry => ({
  leaf: n,
  subleaf,
  eax,
  ebx,
  ecx,
  edx,
});

/** Family 6, model 6, stepping 1, as used for generic emulated processors. */
const SIGNATURE = 0x661;
/** FPU DE TSC MSR PAE MCE CX8 APIC MCA CMOV PAT CLFSH MMX FXSR SSE SSE2. */
const FEATURES_EDX = bits(0, 2, 4, 5, 6, 7, 8, 9, 14, 15, 16, 19, 23, 24, 25, 26);
/** HYPERVISOR. */
const FEATURES_ECX = bits(31);
/** The features that AMD repeats here, and SYSCALL, NX, LM. */
const EXTENDED_EDX = bits(0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 20, 23, 24, 29);
const BRAND = 'Stillpoint virtual CPU'.padEnd(48, '\0');
const brand = (n: number): CpuidEntry => {
  const part = (i: number): number => word(BRAND.slice(16 * n + 4 * i, 16 * n + 4 * i + 4));
  return leaf(0x8000_0002 + n, part(0), part(1), part(2), part(3));
};
/** The width of a physical address in bits, which is enough for every MFN. */
const ADDRESS_BITS = 40;

/** The profile of every new guest. */
export function virtualXen417(vcpus: number): XenIdentity {
  const H = XEN_CPUID_FIRST_LEAF;
  return {
    major: 4,
    minor: 17,
    extraversion: '.7',
    compiler: 'x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0',
    compileBy: 'pkg-xen-devel',
    compileDomain: 'lists.alioth.debian.org',
    compileDate: 'Wed Nov  4 16:52:28 UTC 2026',
    capabilities: 'xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ',
    changeset: '',
    features: bits(
      XENFEAT_pae_pgdir_above_4gb,
      XENFEAT_mmu_pt_update_preserve_ad,
      XENFEAT_highmem_assist,
      XENFEAT_gnttab_map_avail_bits,
      XENFEAT_memory_op_vnode_supported,
      XENFEAT_direct_mapped,
    ),
    cpuid: [
      leaf(0, 1, word('Auth'), word('cAMD'), word('enti')),
      leaf(1, SIGNATURE, 8 * 256 + vcpus * 65536, FEATURES_ECX, FEATURES_EDX),
      leaf(
        H,
        H + XEN_CPUID_MAX_NUM_LEAVES,
        XEN_CPUID_SIGNATURE_EBX,
        XEN_CPUID_SIGNATURE_ECX,
        XEN_CPUID_SIGNATURE_EDX,
      ),
      leaf(H + 1, 4 * 65536 + 17, 0, 0, 0),
      leaf(H + 2, 1, H, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0),
      // Time: the TSC is reliable; mode 0 (default); its frequency; the incarnation, which never changes here.
      leaf(H + 3, 2, 0, TSC_KHZ, 0, 0),
      leaf(H + 3, 0, 0, 0x8000_0000, 1, 1),
      leaf(H + 3, TSC_KHZ, 0, 0, 0, 2),
      leaf(H + 4, 0, 0, 0, 0),
      leaf(H + 5, 0, ADDRESS_BITS, 0, 0),
      leaf(0x8000_0000, 0x8000_0008, word('Auth'), word('cAMD'), word('enti')),
      leaf(0x8000_0001, SIGNATURE, 0, 0, EXTENDED_EDX),
      brand(0),
      brand(1),
      brand(2),
      leaf(0x8000_0005, 0, 0, 0x4002_0140, 0x4002_0140),
      leaf(0x8000_0006, 0, 0, 0x0200_8140, 0),
      leaf(0x8000_0007, 0, 0, 0, 0x100),
      leaf(0x8000_0008, ADDRESS_BITS + 48 * 256, 0, 0, 0),
    ],
  };
}

/** Whether the processor's vendor is AMD or Hygon. Where manuals differ, it then behaves like theirs. */
export function amdLike(identity: XenIdentity): boolean {
  const vendor = lookupCpuid(identity.cpuid, 0, 0)?.ebx;
  return vendor === word('Auth') || vendor === word('Hygo');
}

const NOTHING = leaf(0, 0, 0, 0, 0);

/** The result of CPUID. Unknown leaves are all zero. */
export const cpuid = (identity: XenIdentity, n: number, subleaf: number): CpuidEntry =>
  lookupCpuid(identity.cpuid, n, subleaf) ?? NOTHING;
