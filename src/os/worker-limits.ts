/** Resource limits of the threads in a guest's process. */

/**
 * For all our threads. Since Node 24, V8 reserves address space for an isolate's code (512 MiB by default) as
 * writable memory, so all of it counts towards the limit on a process's private memory (RLIMIT_DATA).
 */
export const WORKER_LIMITS = { codeRangeSizeMb: 32 } as const;

/** How much V8 reserves in this way for a process's main isolate, whose code range cannot be chosen, in KiB. */
export const MAIN_CODE_RANGE_KIB = Number.parseInt(process.versions.node, 10) >= 24 ? 512 * 1024 : 0;
