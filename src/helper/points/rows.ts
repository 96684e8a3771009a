/**
 * Everything that a move from one Xen host to another would change for a PV guest, row by row. The points refer to
 * these rows, and a test checks that each row is covered.
 * Source: Xen's public headers, tools/libs/guest/xg_sr_{save,restore}_x86_pv.c and xg_sr_common_x86.c (what stock
 * save and restore rewrite or lose), and what real kernels read.
 */
export const ROWS: Readonly<Record<string, string>> = {
  M1: 'present entries of page tables that it reads back',
  M2: 'cr3, and the base pointers of kernel and user',
  M3: 'the p2m list',
  M4: 'the M2P table: contents, range, max_mfn',
  M5: 'frames and ports in start_info',
  M6: 'frames of the GDT',
  M7: 'frames in the grant table and what grant operations answer',
  M8: 'registered vcpu_info, runstate and time areas',
  M9: 'frames that memory operations answer',
  M10: 'frames in registers, on stacks, in half-built batches, in continued hypercalls',
  M11: 'bus addresses',
  D1: 'its id in xenstore: domid, paths, permissions, watches',
  D2: 'its id in EVTCHNOP_status',
  D3: "back ends' ids in nodes, grants and ports",
  D4: 'its id in CPUID',
  D5: 'its uuid',
  E1: 'local port numbers',
  E2: 'pending and mask bits, and notifications in flight',
  E3: 'remote ports and domains',
  E4: 'the FIFO ABI',
  E5: 'bindings of virtual interrupts and IPIs, and to vCPUs',
  E6: 'physical interrupts',
  E7: 'ports of its programs (/dev/xen/evtchn)',
  G1: 'grant references in xenstore and in rings',
  G2: 'GTF_reading and GTF_writing while a page is in use',
  G3: 'handles of its own mappings',
  G4: 'version and size of the table',
  G5: 'reserved references',
  T1: 'system time',
  T2: 'the tuple that makes system time of the TSC',
  T3: 'the TSC: value, rate, TSC_AUX',
  T4: 'the time leaves of CPUID, with the incarnation',
  T5: 'the wall clock in shared_info',
  T6: 'armed timers, time-outs of polls, watchdogs',
  T7: 'runstate and stolen time',
  T8: 'the outage itself',
  T9: 'CMOS clock and PIT',
  T10: 'counters in MSRs',
  C1: 'CPUID, faulted and forced',
  C2: 'CPUID, native',
  C3: 'XCR0, the XSAVE area, the FPU',
  C4: 'MSRs that a guest can read',
  C5: 'CR0 and CR4',
  C6: 'sgdt, sidt, sldt, str, smsw, lsl, lar, rdpid',
  C7: 'number and state of the vCPUs',
  C8: 'debug registers',
  C9: 'instructions that are there though CPUID hides them',
  C10: 'all else of a vCPU: trap tables, callbacks, stacks, bases, IOPL, I/O bitmap, masks',
  V: "the hypervisor's version, strings, features, hypercalls",
  R: 'reservations, memory map, limits',
  S1: 'the ring to xenstore: a request half written, an answer half read',
  S2: 'requests under way, transactions',
  S3: 'watches',
  S4: 'its own subtree',
  S5: "back ends' subtrees as it reads them",
  S6: 'control/shutdown and the features around it',
  S7: 'permissions, generations, the order of directories, quotas',
  B: 'rings of console, disks and networks, and what is in flight in them',
  X: 'what only a guest that was asked to suspend sees',
};

/** The rows that a point's `rows` names: "D1-D4, V" means D1, D2, D3, D4 and V. */
export function rowsOf(rows: string): string[] {
  return rows.split(', ').flatMap((part) => {
    const range = /^([A-Z])(\d+)-\1(\d+)$/.exec(part);
    if (range === null) return [part];
    const [, letter, first, last] = range;
    return Array.from(
      { length: Number(last) - Number(first) + 1 },
      (_, i) => `${letter}${Number(first) + i}`,
    );
  });
}
