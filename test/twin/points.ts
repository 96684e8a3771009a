/** The places at which a move is hardest, and how a twin reaches them: from a landmark, one instruction at a time. */
import { XenstoreDomainInterface } from '../../src/xen/xs-wire.js';
import { type Landmark, repStringAt } from './landmarks.js';
import type { TwinGuest } from './twin.js';

interface Place {
  readonly name: string;
  /** Where to begin: a landmark, and a number of instructions before it. Undefined: anywhere. */
  readonly from?: Landmark;
  readonly before: number;
  /** The number of instructions that are searched, and for what; the search moves the twin. */
  readonly most: number;
  found(twin: TwinGuest): boolean;
}

const RCX = 1;
/** Returns the vCPU that executes the next instruction, if one does. */
function running(twin: TwinGuest) {
  const v = twin.guest.domain.state.current;
  return v.blocked || v.down ? undefined : v;
}

/** True if the next instruction is a repeated string instruction with elements left to do. */
function atRepString(twin: TwinGuest): boolean {
  const v = running(twin);
  return v !== undefined && v.cpu.reg(RCX) > 0 && repStringAt(twin.guest.domain.engine, v.id, v.cpu.rip);
}

function requestInRing(twin: TwinGuest): boolean {
  const { domain, container } = twin.guest;
  const page = domain.engine.ram.linearOf(container.storePfn);
  const { mem } = domain.engine.ram;
  const prod = mem.getU32(page + XenstoreDomainInterface.req_prod);
  return prod !== mem.getU32(page + XenstoreDomainInterface.req_cons);
}

function timerIn1ns(twin: TwinGuest): boolean {
  return twin.guest.domain.state.vcpus.some((v) => v.singleshot === twin.now + 1);
}

const there = (): boolean => true;

export const PLACES: readonly Place[] = [
  { name: 'anywhere', before: 0, most: 1, found: there },
  { name: 'before an instruction that faults', from: 'page fault', before: 0, most: 1, found: there },
  { name: "in a page fault's handler", from: 'user page fault', before: -3, most: 1, found: there },
  { name: 'inside a rep string', from: 'rep string', before: 0, most: 1, found: atRepString },
  { name: 'at the first instruction of an event', from: 'event', before: 0, most: 1, found: there },
  { name: 'in the handler of an event', from: 'event', before: -5, most: 1, found: there },
  { name: "before a multicall's syscall", from: 'multicall', before: 0, most: 1, found: there },
  { name: 'while a multicall is put together', from: 'multicall', before: 40, most: 1, found: there },
  {
    name: 'with a request half written to the xenstore ring',
    from: 'store request',
    before: 1000,
    most: 1001,
    found: requestInRing,
  },
  {
    name: 'with a disk request in flight',
    from: 'disk request',
    before: -1,
    most: 1,
    found: (twin) => twin.outside.disk.inFlight > 0,
  },
  {
    name: 'with a frame on its way to the guest',
    from: 'frame',
    before: -900_000,
    most: 1,
    found: (twin) => twin.outside.net.inFlight > 0,
  },
  { name: 'with a timer due in 1 ns', from: 'timer', before: 1, most: 1, found: timerIn1ns },
];

/** Runs the twin on to the place. False: it was not reached. */
export function goTo(twin: TwinGuest, place: Place): boolean {
  for (let i = 0; i < place.most && !twin.done; i++) {
    if (place.found(twin)) return true;
    twin.runTo(twin.now + 1);
  }
  return false;
}
