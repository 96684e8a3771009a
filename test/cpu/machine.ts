/** A machine for tests: one vCPU, the baseline's CPUID, and a clock that does not advance. */
import { FrameMap } from '../../src/engine/engine.js';
import { type Tier, type WasmEngine, wasmEngine } from '../../src/engine/engines.js';

export type Machine = WasmEngine;
export type Vcpu = Machine['vcpus'][number];
export type { Tier };

/** Leaf 1, EDX: FPU, TSC, MSR, CX8, SEP, CMOV, CLFLUSH, MMX, FXSR, SSE, SSE2. ECX: CMPXCHG16B. */
const FEATURES_EDX = 0x0788_8931;
const FEATURES_ECX = 0x2000;
/** Leaf 8000_0001h, EDX: SYSCALL, NX, long mode. ECX: LAHF. */
const EXTENDED_EDX = 0x2010_0800;

const CPUID = [
  { leaf: 0, subleaf: 0, eax: 1, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 },
  { leaf: 1, subleaf: 0, eax: 0x6f1, ebx: 0x800, ecx: FEATURES_ECX, edx: FEATURES_EDX },
  { leaf: 0x8000_0000, subleaf: 0, eax: 0x8000_0001, ebx: 0, ecx: 0, edx: 0 },
  { leaf: 0x8000_0001, subleaf: 0, eax: 0, ebx: 0, ecx: 1, edx: EXTENDED_EDX },
];

/** STILLPOINT_TIER sets the tier of all machines in tests. */
export const TIER = (process.env.STILLPOINT_TIER ?? 'normal') as Tier;
/** Large programs take minutes if all code is translated before it runs: `npm run soak -- tiers` runs them. */
export const TAKES_LARGE_PROGRAMS = TIER !== 'translate' || process.env.STILLPOINT_LONG !== undefined;

export const createMachine = (
  frames: number,
  codeCacheBytes = 16 << 20,
  vcpus = 1,
  tier = TIER,
): Promise<Machine> =>
  wasmEngine({ codeCacheBytes, tier, compilesAtOnce: true })({
    map: FrameMap.whole(frames),
    vcpus,
    cpuid: CPUID,
    now: () => 0,
  });
