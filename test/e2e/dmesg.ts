/**
 * Compares Linux's boot log with the one on real Xen: lines that may differ are listed, everything else is a
 * difference.
 */

/** Lines that depend on the processor, or on Xen's choice of an event-channel ABI. */
const MAY_DIFFER: readonly RegExp[] = [
  // These depend on the processor: caches, clock, vulnerabilities and their mitigations.
  /^Last level [id]TLB entries/,
  /^(Spectre|Speculative|Spec Store|Mitigation|MDS|MMIO|RETBleed|L1TF|SRBDS|TAA|GDS|RFDS|ITS|TSA|VMSCAPE)\b/,
  /^x86\/fpu: /,
  /^tsc: /,
  /^clocksource: tsc/,
  /^sched_clock: /,
  // The event-channel ABI is 2-level here and FIFO there.
  /^xen:events: Using /,
  // When the random number generator is ready depends on timing.
  /^random: crng init done/,
  // These depend on the command line, on what the initramfs loads, and on its messages.
  /^(Kernel command line|Command line|Unknown kernel command line)/,
  /^(xen_netfront|Invalid max_queues|xen:xen_privcmd)/,
];

/** Returns a log line without its time stamp, with all numbers, addresses and digests replaced. */
export const wordsOf = (line: string): string =>
  line
    .replace(/^\[ *\d+\.\d+\] /, '')
    .trimEnd()
    // Linux prints this since about 6.1.180.
    .replace(/ rcu_task_cpu_ids=\d+/, '')
    .replace(/\b[0-9a-f]{40}\b/g, '#')
    .replace(/0x[0-9a-f]+|\d+(\.\d+)*/g, '#');

function normalised(log: string): string[] {
  return log
    .split(/\r?\n/)
    .filter((line) => /^\[ *\d+\.\d+\] /.test(line))
    .map(wordsOf)
    .filter((line) => line !== '' && !MAY_DIFFER.some((pattern) => pattern.test(line)));
}

/** The lines that are missing from the log, and those that it has in addition. */
export function differences(reference: string, log: string): { missing: string[]; added: string[] } {
  const added = normalised(log);
  const missing = normalised(reference).filter((line) => {
    const at = added.indexOf(line);
    if (at >= 0) added.splice(at, 1);
    return at < 0;
  });
  return { missing, added };
}
