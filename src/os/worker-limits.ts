/** What a thread of a guest's process may take for itself. */

/**
 * For all our threads. From Node 24 on V8 reserves the addresses of an isolate's code, 512 MiB if nothing is said, as
 * memory that can be written, and so all of them count towards the limit on a process's private memory (RLIMIT_DATA).
 */
export const WORKER_LIMITS = { codeRangeSizeMb: 32 } as const;

/** What V8 reserves so for a process's main isolate, whose range cannot be chosen, KiB. */
export const MAIN_CODE_RANGE_KIB = Number.parseInt(process.versions.node, 10) >= 24 ? 512 * 1024 : 0;
