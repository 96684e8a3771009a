/**
 * Guests' memory in large pages, where the system gives them to who asks (transparent_hugepage, `madvise`): the first
 * touch of 2 MiB is one fault and not 512, and a guest's memory takes fewer entries of the processor's own TLB.
 * Linux only, by koffi, an optional package.
 */

/** From the system's sys/mman.h; the same on all processors but alpha and parisc. */
const MADV_HUGEPAGE = 14;

/** Advice on memory that nothing has been written to yet; undefined where there is nobody to give it to. */
export type MemoryAdvice = (memory: ArrayBufferLike) => void;

export async function hugePages(): Promise<MemoryAdvice | undefined> {
  try {
    const koffi = (await import('koffi')).default as unknown as typeof import('koffi');
    const madvise = koffi.load('libc.so.6').func('int madvise(void *at, size_t length, int advice)');
    // Where it is refused, the memory is as it would have been.
    return (memory) => void madvise(new Uint8Array(memory), memory.byteLength, MADV_HUGEPAGE);
  } catch {
    return undefined;
  }
}
