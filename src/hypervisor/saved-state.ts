/**
 * Saves a domain's state as records, and restores it. RAM is not part of them; it must be complete before a restore
 * begins.
 *
 * Invariant: everything is read and checked before anything in the container is changed. What is restored is what was
 * saved, so the guest's next instruction finds the same machine.
 */
import { clockRecord } from '../engine/clock.js';
import { decodeVcpuStates, encodeVcpuStates } from '../engine/vcpu-state.js';
import {
  big64,
  bool,
  bytes,
  f64,
  int,
  list,
  ns,
  RecordError,
  struct,
  u8,
  u16,
  u32,
} from '../records/fields.js';
import {
  concatBytes,
  decodeAll,
  decodeRecord,
  encodeRecord,
  type RawRecord,
  recordType,
} from '../records/record.js';
import { EVTCHN_2L_NR_CHANNELS, VcpuInfo } from '../xen/shared-info.js';
import { PortState } from './events/event-channels.js';
import { Owner } from './mmu/frames.js';
import type { DomainState } from './state.js';
import type { Turns } from './vcpu/scheduler.js';
import {
  readVcpuContext,
  restoreVcpuContext,
  saveVcpuContext,
  vcpuContextRecord,
} from './vcpu/vcpu-context-record.js';

export const machineRecord = recordType('MACH', 1, 'the processors', {
  records: [bytes, 'records of the machine'],
});

const domainBefore = {
  vmAssist: [u32, 'VMASST_* bits'],
  shutdownCode: [int, 'code given ahead with SCHEDOP_shutdown_code, -1 for none'],
  watchdog: [list(f64), 'deadlines of the watchdogs, NaN for none'],
} as const;
const domainAfter = {
  pirqEoiMfn: [int, 'MFN of PHYSDEVOP_pirq_eoi_gmfn, 0 for none'],
  cmosIndex: [u8, 'port 0x70'],
  pciCf8: [u32, 'port 0xcf8'],
  turn: [u8, 'vCPU whose turn it is'],
  turnEnds: [ns, 'end of that turn, virtual ns'],
  cut: [int, 'vCPU stopped in the middle of its slice, -1 for none'],
  preferred: [int, 'vCPU that an event has woken since, -1 for none'],
} as const;
/** The first layout rounded the numbers in a guest's memory map. */
const domainState1 = struct({
  ...domainBefore,
  memoryMap: [
    list(struct({ start: [f64, 'first byte'], bytes: [f64, 'length'], type: [u32, 'E820_*'] })),
    'XENMEM_memory_map',
  ],
  ...domainAfter,
});
/** In version 2, m2p_strict was not saved. */
const domainState2 = struct({
  ...domainBefore,
  memoryMap: [
    list(struct({ start: [big64, 'first byte'], bytes: [big64, 'length'], type: [u32, 'E820_*'] })),
    'XENMEM_memory_map',
  ],
  ...domainAfter,
});
/** The 64 bits of a whole number, as numbers were once written for the guest. */
const wholeNumber = (n: number): bigint =>
  Number.isFinite(n) ? BigInt.asUintN(64, BigInt(Math.trunc(n))) : 0n;

export const domainStateRecord = recordType(
  'DOMN',
  3,
  'what Xen keeps of the domain',
  {
    ...domainBefore,
    memoryMap: [
      list(struct({ start: [big64, 'first byte'], bytes: [big64, 'length'], type: [u32, 'E820_*'] })),
      'XENMEM_memory_map',
    ],
    ...domainAfter,
    m2pStrict: [bool, 'VMASST_TYPE_m2p_strict'],
  },
  [
    {
      version: 2,
      body: domainState2,
      upgrade: (old: ReturnType<typeof domainState2.read>) => ({ ...old, m2pStrict: false }),
    },
    {
      version: 1,
      body: domainState1,
      upgrade: (old: ReturnType<typeof domainState1.read>) => ({
        ...old,
        m2pStrict: false,
        memoryMap: old.memoryMap.map((range) => ({
          ...range,
          start: wholeNumber(range.start),
          bytes: wholeNumber(range.bytes),
        })),
      }),
    },
  ],
);

export const eventChannelsRecord = recordType(
  'EVTC',
  1,
  'event channels; pending and mask bits are in shared_info',
  {
    validPorts: [u16, 'ports that Xen has storage for'],
    ports: [
      list(
        struct({
          port: [u16, 'port'],
          state: [u8, '2 unbound, 3 interdomain, 5 virtual interrupt, 6 IPI'],
          vcpu: [u8, 'vCPU that is told'],
          remoteDomid: [u16, 'remote domain'],
          target: [u16, 'remote port, or number of the virtual interrupt'],
        }),
      ),
      'ports in use',
    ],
  },
);

export const grantsRecord = recordType('GRNT', 1, 'the grant table; entries are guest memory', {
  nrFrames: [u16, 'frames of the table'],
  pins: [
    list(
      struct({
        ref: [u32, 'grant'],
        domid: [u16, 'domain that uses it'],
        frame: [u32, 'frame index'],
        readers: [u16, 'mappings for reading'],
        writers: [u16, 'mappings for writing'],
      }),
    ),
    'grants in use',
  ],
  handles: [
    list(struct({ flags: [u32, 'GNTMAP_*'], ref: [u32, 'grant'] })),
    "the guest's own mappings, by handle",
  ],
});

const framesTable = {
  owners: [
    list(struct({ count: [u32, 'frames'], owner: [u8, '0 free, 1 guest, 2 shared, 3 Xen'] })),
    'runs from frame 0',
  ],
  tables: [
    list(
      struct({
        frame: [u32, 'frame index'],
        level: [u8, '1 to 4'],
        pinned: [bool, 'pinned by the guest'],
        count: [u32, 'type references'],
      }),
    ),
    'page tables',
  ],
} as const;
/** In the first layout linear entries are not saved; they are counted in memory. */
const framesRecord1 = struct(framesTable);
const framesTable2 = {
  ...framesTable,
  linear: [
    list(
      struct({
        frame: [u32, 'frame index of a page table'],
        count: [int, 'its entries that name other tables of its level; negative: such entries that name it'],
      }),
    ),
    'linear page tables',
  ],
} as const;
/**
 * Also the layout of version 3, in which all page tables in memory are in the form in which Xen stores them: USER in
 * every entry, and Xen's own entries in slots 256 to 271.
 */
const framesRecord2 = struct(framesTable2);

export const framesRecord = recordType('FRAM', 3, 'owners of frames, and page tables', framesTable2, [
  {
    version: 2,
    body: framesRecord2,
    upgrade: (old: ReturnType<typeof framesRecord2.read>) => old,
  },
  {
    version: 1,
    body: framesRecord1,
    upgrade: (old: ReturnType<typeof framesRecord1.read>) => ({ ...old, linear: [] }),
  },
]);

export function saveState(d: DomainState, turns: Turns): Uint8Array {
  const { events, grants, frames } = d;
  const ports = [];
  for (let port = 1; port < events.validPorts; port++) {
    const state = events.state[port];
    if (state === PortState.free) continue;
    const [vcpu, remoteDomid, target] = [events.vcpu[port], events.remoteDomid[port], events.target[port]];
    ports.push({ port, state, vcpu, remoteDomid, target });
  }
  const owners = frames.runs();
  const tables = frames.tables().map((frame) => ({
    frame,
    level: frames.type[frame],
    pinned: frames.pinned[frame] === 1,
    count: frames.count[frame],
  }));
  const linear = [...frames.linear].map(([frame, count]) => ({ frame, count }));
  const { vmAssist, shutdownCode, pirqEoiMfn, cmosIndex, pciCf8 } = d;
  const memoryMap = d.memoryMap.map((range) => ({ ...range }));
  return concatBytes([
    encodeRecord(clockRecord, { now: d.clock.now(), deterministic: d.clock.deterministic }),
    encodeRecord(machineRecord, { records: encodeVcpuStates(d.engine.save()) }),
    encodeRecord(domainStateRecord, {
      vmAssist,
      shutdownCode,
      memoryMap,
      pirqEoiMfn,
      watchdog: [...d.watchdog],
      cmosIndex,
      pciCf8,
      ...turns,
      m2pStrict: d.tables.m2pStrict,
    }),
    ...d.vcpus.map((v) => saveVcpuContext(v, (events.pollMask & (1 << v.id)) !== 0)),
    encodeRecord(eventChannelsRecord, { validPorts: events.validPorts, ports }),
    encodeRecord(grantsRecord, {
      nrFrames: grants.nrFrames,
      pins: grants.pins(),
      handles: grants.handles.map((h) => ({ ...h })),
    }),
    encodeRecord(framesRecord, { owners, tables, linear }),
  ]);
}

/** From this version of the record FRAM on, tables in memory are in the form that the engine and the guest expect. */
const TABLES_AS_XEN = 3;

/** Restores into a new container. Returns the state of the scheduler's turns. Throws RecordError. */
export function restoreState(d: DomainState, stream: Uint8Array): Turns {
  const all = decodeAll(stream);
  const only = (tag: string): RawRecord => {
    const found = all.filter((r) => r.tag === tag);
    if (found.length !== 1) throw new RecordError(0, `one record ${tag} expected, found ${found.length}`);
    return found[0];
  };
  const refuse = (tag: string, message: string): never => {
    throw new RecordError(only(tag).offset, message);
  };
  const clock = decodeRecord(clockRecord, only(clockRecord.tag));
  const machine = decodeRecord(machineRecord, only(machineRecord.tag));
  const states = decodeVcpuStates(machine.records);
  const domain = decodeRecord(domainStateRecord, only(domainStateRecord.tag));
  const events = decodeRecord(eventChannelsRecord, only(eventChannelsRecord.tag));
  const grants = decodeRecord(grantsRecord, only(grantsRecord.tag));
  const frames = decodeRecord(framesRecord, only(framesRecord.tag));
  const contexts = all.filter((r) => r.tag === vcpuContextRecord.tag).map(readVcpuContext);

  if (contexts.length !== d.vcpus.length || contexts.some((c, i) => c.id !== i)) {
    throw new RecordError(0, `${d.vcpus.length} vCPUs in order expected, found ${contexts.length}`);
  }
  if (clock.deterministic !== d.clock.deterministic) refuse('CLCK', 'the clock is of the other kind');
  if (frames.owners.reduce((sum, run) => sum + run.count, 0) !== d.frames.frames) {
    refuse('FRAM', `${d.frames.frames} frames expected`);
  }
  if (frames.owners.some((run) => run.owner > Owner.xen)) refuse('FRAM', 'an owner that does not exist');
  if (frames.tables.some((t) => t.frame >= d.frames.frames || t.level < 1 || t.level > 4 || t.count === 0)) {
    refuse('FRAM', 'a page table that cannot be');
  }
  if (frames.linear.length > 0) {
    const upper = new Set(frames.tables.filter((t) => t.level > 1).map((t) => t.frame));
    if (frames.linear.some((l) => !upper.has(l.frame)))
      refuse('FRAM', 'linear entries of what is no page table above the lowest level');
  }
  const nrVcpus = d.vcpus.length;
  if (events.validPorts > EVTCHN_2L_NR_CHANNELS) refuse('EVTC', 'too many ports');
  for (const id of [domain.turn, domain.cut, domain.preferred]) {
    if (id < -1 || id >= nrVcpus) refuse('DOMN', `vCPU ${id} does not exist`);
  }
  if (events.ports.some((p) => p.port >= events.validPorts || p.vcpu >= nrVcpus || p.state > PortState.ipi)) {
    refuse('EVTC', 'a port that cannot be');
  }
  if (grants.nrFrames > d.grants.maxFrames) refuse('GRNT', 'the table is too big');
  for (const c of contexts) {
    if (
      c.gdtFrames.length !== 16 ||
      c.runstateTime.length !== 4 ||
      c.virqPort.length !== 24 ||
      c.runstate > 3
    ) {
      throw new RecordError(0, `vCPU ${c.id} does not have the shape of one`);
    }
    const gdtPages = Math.ceil(c.gdtEnts / 512);
    if (gdtPages > 14 || c.gdtFrames.slice(0, gdtPages).some((mfn) => d.ram.address(mfn) < 0)) {
      throw new RecordError(0, `the GDT of vCPU ${c.id} is not in memory`);
    }
    const outside = c.vcpuInfoMfn !== 0 && d.ram.address(c.vcpuInfoMfn) < 0;
    if (outside || c.vcpuInfoOffset > 4096 - VcpuInfo.sizeof) {
      throw new RecordError(0, `vcpu_info of vCPU ${c.id} is not in memory`);
    }
    if (c.virqPort.some((port) => port >= events.validPorts)) {
      throw new RecordError(0, `a port of vCPU ${c.id} does not exist`);
    }
  }

  d.engine.restore(states);
  d.clock.set(clock.now);
  d.vmAssist = domain.vmAssist;
  d.tables.m2pStrict = domain.m2pStrict;
  d.shutdownCode = domain.shutdownCode;
  d.watchdog.set(domain.watchdog);
  d.cmosIndex = domain.cmosIndex;
  d.pciCf8 = domain.pciCf8;
  d.pirqEoiMfn = domain.pirqEoiMfn;
  d.memoryMap = domain.memoryMap;
  d.frames.clearTypes();
  d.frames.setRuns(frames.owners);
  for (const t of frames.tables) {
    d.frames.type[t.frame] = t.level;
    d.frames.count[t.frame] = t.count;
    d.frames.pinned[t.frame] = t.pinned ? 1 : 0;
  }
  for (const l of frames.linear) d.frames.linear.set(l.frame, l.count);
  const { version } = only(framesRecord.tag);
  if (version === 1) d.tables.countLinear();
  if (version < TABLES_AS_XEN) {
    d.m2p.createTables();
    d.tables.adoptTables(new Set(d.engine.vcpus.map((cpu) => cpu.cr3Kernel)));
  }
  for (const t of frames.tables) d.engine.tables.typed(t.frame, t.level);
  d.grants.nrFrames = grants.nrFrames;
  for (const pin of grants.pins) d.grants.restorePin(pin);
  d.grants.handles.splice(0, d.grants.handles.length, ...grants.handles);
  d.events.validPorts = events.validPorts;
  for (const p of events.ports) {
    d.events.state[p.port] = p.state;
    d.events.vcpu[p.port] = p.vcpu;
    d.events.remoteDomid[p.port] = p.remoteDomid;
    d.events.target[p.port] = p.target;
  }
  d.events.pollMask = 0;
  contexts.forEach((c, i) => {
    const v = d.vcpus[i];
    restoreVcpuContext(v, c);
    if (c.polling) d.events.pollMask |= 1 << i;
    if (c.vcpuInfoMfn !== 0) d.frames.writers[d.ram.frameOf(c.vcpuInfoMfn)]++;
    v.vcpuInfo =
      c.vcpuInfoMfn === 0
        ? d.sharedInfo + i * VcpuInfo.sizeof
        : d.ram.address(c.vcpuInfoMfn) + c.vcpuInfoOffset;
  });
  return domain;
}
