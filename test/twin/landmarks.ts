/**
 * Notes the times of the hard places of a run while the twin that stays runs: the other twin is equal up to there.
 * Times are virtual, in ns, and so count instructions.
 */

import { type CpuEngine, Exit } from '../../src/engine/engine.js';
import { decodeAt } from '../../src/hypervisor/emulation/decode-at.js';
import { OpKind } from '../../src/x86/iced.js';
import { EVTCHNOP_send } from '../../src/xen/event-channel.js';
import { __HYPERVISOR_event_channel_op, __HYPERVISOR_multicall } from '../../src/xen/hypercalls.js';
import type { Random } from './random.js';
import type { TwinGuest } from './twin.js';

export type Landmark =
  | 'multicall'
  | 'user page fault'
  | 'page fault'
  | 'event'
  | 'store request'
  | 'rep string'
  | 'disk request'
  | 'frame'
  | 'timer';

/** How many places of each kind are kept, as a fair sample. */
const MOST = 2000;
const RAX = 0;
const RCX = 1;
const RDI = 7;
const RSI = 6;
const PAGE_FAULT = 14;

/** True if the instruction at `rip` is a string instruction with a repeat prefix. */
export function repStringAt(machine: CpuEngine, id: number, rip: number): boolean {
  // A cheap check first: most instructions have no such prefix.
  const at = machine.translate(id, rip, 2);
  if (at < 0 || (machine.ram.mem.getU8(at) !== 0xf3 && machine.ram.mem.getU8(at) !== 0xf2)) return false;
  const instruction = decodeAt(machine, id, rip);
  if (instruction === null) return false;
  const string =
    (instruction.hasRepPrefix || instruction.hasRepnePrefix) &&
    [instruction.op0Kind, instruction.op1Kind].some(
      (kind) => kind >= OpKind.MemorySegSI && kind <= OpKind.MemoryESRDI,
    );
  instruction.free();
  return string;
}

/**
 * A repeated string instruction that faults on one page after another: its address, rcx at the last fault, and the
 * number of faults.
 */
interface RepFaults {
  readonly rip: number;
  readonly rcx: number;
  readonly count: number;
}

export class Landmarks {
  private readonly times = new Map<Landmark, number[]>();
  private readonly counts = new Map<Landmark, number>();

  constructor(private readonly random: Random) {}

  /** The times of each kind, in no order. */
  of(kind: Landmark): readonly number[] {
    return this.times.get(kind) ?? [];
  }

  count(kind: Landmark): number {
    return this.counts.get(kind) ?? 0;
  }

  note(kind: Landmark, time: number): void {
    const n = this.count(kind) + 1;
    this.counts.set(kind, n);
    const list = this.times.get(kind) ?? [];
    this.times.set(kind, list);
    if (list.length < MOST) list.push(time);
    else if (this.random.below(n) < MOST) list[this.random.below(MOST)] = time;
  }

  /** Observes every exit of the twin's vCPUs from here on. */
  watch(twin: TwinGuest): void {
    const { domain, container } = twin.guest;
    const { engine, state, clock } = domain;
    twin.outside.onDisk = () => this.note('disk request', clock.now());
    twin.outside.onFrame = () => this.note('frame', clock.now());
    const run = engine.run.bind(engine);
    const faults: (RepFaults | undefined)[] = state.vcpus.map(() => undefined);
    const timers = state.vcpus.map(() => Number.POSITIVE_INFINITY);
    engine.run = (id) => {
      const v = state.vcpus[id];
      const { cpu } = v;
      // If the deadline has changed and the old one has passed, the timer has fired.
      if (v.singleshot !== timers[id]) {
        if (timers[id] <= clock.now()) this.note('timer', timers[id]);
        timers[id] = v.singleshot;
      }
      if (v.eventCallback !== 0 && cpu.rip === v.eventCallback) this.note('event', clock.now());
      const exit = run(id);
      if (exit === Exit.exception && cpu.exitVector === PAGE_FAULT)
        this.note(cpu.userMode ? 'user page fault' : 'page fault', clock.now());
      if (exit === Exit.exception && cpu.exitVector === PAGE_FAULT && cpu.userMode) {
        faults[id] = this.repFault(faults[id], cpu.rip, cpu.reg(RCX), repStringAt(engine, id, cpu.rip));
        // It has continued after the previous fault, at which some elements were done: that state is the one of
        // interest.
        if ((faults[id]?.count ?? 0) > 2) this.note('rep string', clock.now());
      }
      if (exit === Exit.syscall && !cpu.userMode) {
        const nr = cpu.reg(RAX);
        if (nr === __HYPERVISOR_multicall) this.note('multicall', clock.now() - 1);
        if (nr === __HYPERVISOR_event_channel_op && cpu.reg(RDI) === EVTCHNOP_send) {
          const at = engine.translate(id, cpu.reg(RSI), 0);
          if (at > 0 && engine.ram.mem.getU32(at) === container.storePort)
            this.note('store request', clock.now());
        }
      }
      return exit;
    };
  }

  private repFault(
    last: RepFaults | undefined,
    rip: number,
    rcx: number,
    string: boolean,
  ): RepFaults | undefined {
    if (!string) return undefined;
    const goesOn = last !== undefined && last.rip === rip && rcx < last.rcx;
    return { rip, rcx, count: goesOn ? last.count + 1 : 1 };
  }
}
