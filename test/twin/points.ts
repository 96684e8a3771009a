/** Places at which a move is hardest, and how a twin gets there: from a landmark, an instruction at a time. */
import { OpKind } from 'iced-x86';
import { XenstoreDomainInterface } from '../../src/xen/xs-wire.js';
import type { Landmark } from './landmarks.js';
import type { TwinGuest } from './twin.js';

interface Place {
  readonly name: string;
  /** Where to begin: a landmark and how many instructions before it; undefined: anywhere. */
  readonly from?: Landmark;
  readonly before: number;
  /** Instructions looked through, and what for; moves the twin. */
  readonly most: number;
  found(twin: TwinGuest): boolean;
}

const RCX = 1;
/** Virtual time within which a guest that does anything arms a timer, ns. */
const TIMER_NS = 50_000_000;
const TRIES = 50;

/** The vCPU that executes the next instruction, if one does. */
function running(twin: TwinGuest) {
  const v = twin.guest.domain.state.current;
  return v.blocked || v.down ? undefined : v;
}

/** True, and one iteration further, if a rep string is half done. */
export function insideRepString(twin: TwinGuest): boolean {
  const v = running(twin);
  if (v === undefined || v.cpu.reg(RCX) < 2) return false;
  const { machine } = twin.guest.domain;
  // Cheap first: most instructions begin with no prefix of repetition.
  const at = machine.translate(v.id, v.cpu.rip, 2);
  if (at < 0 || (machine.mem.getU8(at) !== 0xf3 && machine.mem.getU8(at) !== 0xf2)) return false;
  const instruction = machine.decodeAt(v.id, v.cpu.rip);
  if (instruction === null) return false;
  const string =
    (instruction.hasRepPrefix || instruction.hasRepnePrefix) &&
    [instruction.op0Kind, instruction.op1Kind].some(
      (kind) => kind >= OpKind.MemorySegSI && kind <= OpKind.MemoryESRDI,
    );
  instruction.free();
  if (!string) return false;
  const { rip } = v.cpu;
  twin.runTo(twin.now + 1);
  return running(twin) === v && v.cpu.rip === rip && v.cpu.reg(RCX) > 0;
}

function requestInRing(twin: TwinGuest): boolean {
  const { domain, container } = twin.guest;
  const page = domain.machine.framesBase + container.storePfn * 4096;
  const { mem } = domain.machine;
  const prod = mem.getU32(page + XenstoreDomainInterface.req_prod);
  return prod !== mem.getU32(page + XenstoreDomainInterface.req_cons);
}

function timerIn1ns(twin: TwinGuest): boolean {
  const { vcpus } = twin.guest.domain.state;
  const until = twin.now + TIMER_NS;
  for (let i = 0; i < TRIES && !twin.done; i++) {
    const { now } = twin;
    const next = Math.min(
      ...vcpus.map((v) => (v.singleshot > now + 1 ? v.singleshot : Number.POSITIVE_INFINITY)),
    );
    if (next > until) return false;
    twin.runTo(next - 1);
    if (vcpus.some((v) => v.singleshot === twin.now + 1)) return true;
  }
  return false;
}

const there = (): boolean => true;

export const PLACES: readonly Place[] = [
  { name: 'anywhere', before: 0, most: 1, found: there },
  { name: 'before an instruction that faults', from: 'page fault', before: 0, most: 1, found: there },
  { name: "in a page fault's handler", from: 'user page fault', before: -3, most: 1, found: there },
  { name: 'inside a rep string', from: 'rep string', before: 0, most: 1, found: there },
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
  { name: 'with a timer due in 1 ns', before: 0, most: 1, found: timerIn1ns },
];

/** Runs the twin on to the place; false if it was not met. */
export function goTo(twin: TwinGuest, place: Place): boolean {
  for (let i = 0; i < place.most && !twin.done; i++) {
    if (place.found(twin)) return true;
    twin.runTo(twin.now + 1);
  }
  return false;
}
