/**
 * Whether V8 can run WebAssembly with SIMD on this processor. Without it the engine does not start, and V8's own words
 * ("Wasm SIMD unsupported") do not say why.
 * Source: V8, src/codegen/x64/assembler-x64.cc, CpuFeatures::SupportsWasmSimd128; Linux, arch/x86/kernel/cpu/proc.c.
 */

/** As Linux names them, and as manuals do. */
const NEEDED: Readonly<Record<string, string>> = { ssse3: 'SSSE3', sse4_1: 'SSE4.1' };

/**
 * What is missing, in words for an administrator; undefined where all is there. `cpuinfo` is the text of /proc/cpuinfo.
 * Every processor is looked at, because the guest runs on any of them.
 */
export function cpuFault(cpuinfo: string): string | undefined {
  const processors = [...cpuinfo.matchAll(/^flags\s*:(.*)$/gm)].map(
    ([, flags]) => new Set(flags.trim().split(/\s+/)),
  );
  if (processors.length === 0)
    return 'what the processor can do is not known: /proc/cpuinfo has no line "flags"';
  const missing = Object.entries(NEEDED)
    .filter(([flag]) => processors.some((flags) => !flags.has(flag)))
    .map(([, name]) => name);
  if (missing.length === 0) return undefined;
  const are = missing.length > 1 ? 'are instruction sets' : 'is an instruction set';
  return (
    `the processor of this domain lacks ${missing.join(' and ')}, which ${are} that WebAssembly in Node needs. ` +
    'A cpuid= line of the domain may hide what the host has; processors since 2008 (Intel) and 2011 (AMD) have both'
  );
}
