/**
 * Asks for huge pages for guests' memory, if the system grants them on request (transparent_hugepage set to
 * `madvise`). Then the first access to 2 MiB costs one page fault instead of 512, and guest memory needs fewer
 * entries in the processor's TLB. Linux only, with the optional package koffi.
 */

/** From the system's sys/mman.h. It is the same on all processors except alpha and parisc. */
const MADV_HUGEPAGE = 14;

/**
 * Gives the system advice on memory that nothing has been written to yet. The promise gives undefined if that is not
 * possible.
 */
export type MemoryAdvice = (memory: ArrayBufferLike) => void;

export async function hugePages(): Promise<MemoryAdvice | undefined> {
  try {
    // Types: koffi's declarations are of the module, not of its default export.
    const koffi = (await import('koffi')).default as unknown as typeof import('koffi');
    const madvise = koffi.load('libc.so.6').func('int madvise(void *at, size_t length, int advice)');
    // If the system refuses, the memory has ordinary pages.
    return (memory) => void madvise(new Uint8Array(memory), memory.byteLength, MADV_HUGEPAGE);
  } catch {
    return undefined;
  }
}
