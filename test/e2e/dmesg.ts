/** Linux's boot log here against the one on real Xen: what may differ is listed, everything else is a difference. */

/** Lines that depend on the processor, or on Xen's choice of an event-channel ABI. */
const MAY_DIFFER: readonly RegExp[] = [
  // The processor: its caches, its clock, its faults and what is done about them.
  /^Last level [id]TLB entries/,
  /^(Spectre|Speculative|Spec Store|Mitigation|MDS|MMIO|RETBleed|L1TF|SRBDS|TAA|GDS|RFDS|ITS|TSA|VMSCAPE)\b/,
  /^x86\/fpu: /,
  /^tsc: /,
  /^clocksource: tsc/,
  /^sched_clock: /,
  // 2-level here, FIFO there.
  /^xen:events: Using /,
  // When there has been enough chance for random numbers: a matter of time.
  /^random: crng init done/,
  // What the guest is told to do, the initramfs loads, and its own words.
  /^(Kernel command line|Command line|Unknown kernel command line)/,
  /^(xen_netfront|Invalid max_queues|xen:xen_privcmd)/,
];

/** A line of a log without its time stamp; numbers, addresses and digests are all alike. */
export const wordsOf = (line: string): string =>
  line
    .replace(/^\[ *\d+\.\d+\] /, '')
    .trimEnd()
    // Said by Linux from 6.1.180 or so on.
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

/** Lines that the log lacks, and lines that it has too many. */
export function differences(reference: string, log: string): { missing: string[]; added: string[] } {
  const added = normalised(log);
  const missing = normalised(reference).filter((line) => {
    const at = added.indexOf(line);
    if (at >= 0) added.splice(at, 1);
    return at < 0;
  });
  return { missing, added };
}
