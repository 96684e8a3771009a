/** The hypervisor's state of a vCPU as a record: everything in VcpuContext that is not derived from elsewhere. */
import { bool, f64, int, list, ns, optional, struct, u8, u16, u32 } from '../../records/fields.js';
import { decodeRecord, encodeRecord, type RawRecord, recordType } from '../../records/record.js';
import { NEVER, type Runstate, type VcpuContext } from './vcpu-context.js';

const gate = struct({
  vector: [u8, 'vector'],
  flags: [u8, 'DPL and TI_IF'],
  cs: [u16, 'selector'],
  address: [int, 'handler'],
});

const before = {
  id: [u8, 'number of the vCPU'],
  initialised: [bool, 'has a state'],
  down: [bool, 'is off'],
  blocked: [bool, 'waits for an event'],
  polling: [bool, 'waits in SCHEDOP_poll'],
  pollPort: [int, 'the one port polled; -1 for several'],
  traps: [list(gate), 'trap table, entries with a handler'],
  eventCallback: [int, 'CALLBACKTYPE_event'],
  failsafeCallback: [int, 'CALLBACKTYPE_failsafe'],
  syscallCallback: [int, 'CALLBACKTYPE_syscall'],
  syscall32Callback: [int, 'CALLBACKTYPE_syscall32'],
  sysenterCallback: [int, 'CALLBACKTYPE_sysenter'],
  failsafeDisablesEvents: [bool, 'events masked in the failsafe callback'],
  syscallDisablesEvents: [bool, 'events masked in the syscall callback'],
  syscall32DisablesEvents: [bool, 'events masked in the syscall32 callback'],
  sysenterDisablesEvents: [bool, 'events masked in the sysenter callback'],
  kernelSs: [u16, 'stack segment of the kernel'],
  kernelSp: [int, 'stack pointer of the kernel'],
  iopl: [u16, 'I/O privilege level, in place (0x0000 to 0x3000)'],
  iobmp: [int, 'address of the I/O bitmap'],
  iobmpLimit: [u32, 'ports in it'],
  dr7Emul: [u8, 'I/O breakpoints, enable bits'],
  cr4: [u32, 'CR4 as the guest sees it'],
  gdtEnts: [u16, 'entries of the GDT'],
  gdtFrames: [list(int), 'MFNs of the GDT'],
  ldtBase: [int, 'address of the LDT'],
  ldtEnts: [u16, 'entries of the LDT'],
  vcpuInfoMfn: [int, 'where vcpu_info was moved to; 0: in shared_info'],
  vcpuInfoOffset: [u16, 'offset in that frame'],
  runstateArea: [int, 'address of the runstate area, 0 for none'],
  timeArea: [int, 'address of the second time record, 0 for none'],
  nmiPending: [bool, 'an NMI is to be delivered'],
  asyncMask: [u8, 'NMIs are masked'],
  nmiOldMask: [u8, 'mask to go back to'],
  loadSegments: [bool, 'selectors are to be loaded before it runs'],
  singleshot: [optional(ns), 'deadline of the single-shot timer, virtual ns'],
  pollTimeout: [optional(f64), 'end of a poll, virtual ns'],
  periodicPeriod: [int, 'period of the periodic timer, ns; 0 for none'],
  periodicLast: [ns, 'its last tick, virtual ns'],
} as const;
const after = {
  runstate: [u8, 'RUNSTATE_*'],
  runstateEntry: [ns, 'since when, virtual ns'],
  runstateTime: [list(ns), 'time in each state, ns'],
  virqPort: [list(u16), 'port bound to each virtual interrupt, 0 for none'],
} as const;
/** In the first layout a stop was over when all vCPUs had been told of it. */
const context1 = struct({ ...before, ...after });

export const vcpuContextRecord = recordType(
  'VCTX',
  2,
  'what Xen keeps of one vCPU',
  {
    ...before,
    marksOwed: [u32, 'timer events yet to come with the mark of a long stop'],
    ...after,
  },
  [
    {
      version: 1,
      body: context1,
      upgrade: (old: ReturnType<typeof context1.read>) => ({ ...old, marksOwed: 0 }),
    },
  ],
);

/** Fields with the same name and type in the record and in the context. */
const SAME = [
  'initialised',
  'down',
  'blocked',
  'pollPort',
  'eventCallback',
  'failsafeCallback',
  'syscallCallback',
  'syscall32Callback',
  'sysenterCallback',
  'failsafeDisablesEvents',
  'syscallDisablesEvents',
  'syscall32DisablesEvents',
  'sysenterDisablesEvents',
  'kernelSs',
  'kernelSp',
  'iopl',
  'iobmp',
  'iobmpLimit',
  'dr7Emul',
  'cr4',
  'gdtEnts',
  'ldtBase',
  'ldtEnts',
  'vcpuInfoMfn',
  'vcpuInfoOffset',
  'runstateArea',
  'timeArea',
  'nmiPending',
  'asyncMask',
  'nmiOldMask',
  'loadSegments',
  'periodicPeriod',
  'periodicLast',
  'marksOwed',
  'runstateEntry',
] as const;

const orNull = (time: number): number | null => (time === NEVER ? null : time);

export function saveVcpuContext(v: VcpuContext, polling: boolean): Uint8Array {
  const traps = [];
  for (let vector = 0; vector < 256; vector++) {
    if (v.trapAddress[vector] === 0 && v.trapCs[vector] === 0 && v.trapFlags[vector] === 0) continue;
    traps.push({ vector, flags: v.trapFlags[vector], cs: v.trapCs[vector], address: v.trapAddress[vector] });
  }
  const same = Object.fromEntries(SAME.map((name) => [name, v[name]])) as Pick<
    VcpuContext,
    (typeof SAME)[number]
  >;
  return encodeRecord(vcpuContextRecord, {
    ...same,
    id: v.id,
    polling,
    traps,
    gdtFrames: [...v.gdtFrames],
    singleshot: orNull(v.singleshot),
    pollTimeout: orNull(v.pollTimeout),
    runstate: v.runstate,
    runstateTime: [...v.runstateTime],
    virqPort: [...v.virqPort],
  });
}

export type SavedVcpuContext = ReturnType<typeof readVcpuContext>;

export const readVcpuContext = (raw: RawRecord) => decodeRecord(vcpuContextRecord, raw);

/** Fills a new context. The caller sets where vcpu_info is. */
export function restoreVcpuContext(v: VcpuContext, saved: SavedVcpuContext): void {
  Object.assign(v, Object.fromEntries(SAME.map((name) => [name, saved[name]])));
  for (const { vector, flags, cs, address } of saved.traps) {
    v.trapAddress[vector] = address;
    v.trapCs[vector] = cs;
    v.trapFlags[vector] = flags;
  }
  v.gdtFrames.set(saved.gdtFrames);
  v.singleshot = saved.singleshot ?? NEVER;
  v.pollTimeout = saved.pollTimeout ?? NEVER;
  v.runstate = saved.runstate as Runstate;
  v.runstateTime.set(saved.runstateTime);
  v.virqPort.set(saved.virqPort);
}
