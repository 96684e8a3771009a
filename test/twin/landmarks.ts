/**
 * When the hard places of a run come by, noted while the twin that stays runs: the other one is the same up to there.
 * Times are virtual, ns, and so count instructions.
 */

import { Exit } from '../../src/machine/machine.js';
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
  | 'rep string';

/** Kept of each kind: a fair sample. */
const MOST = 2000;
const RAX = 0;
const RDI = 7;
const RSI = 6;
const PAGE_FAULT = 14;

export class Landmarks {
  private readonly times = new Map<Landmark, number[]>();
  private readonly counts = new Map<Landmark, number>();

  constructor(private readonly random: Random) {}

  /** Times of a kind, in no order. */
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

  /** Looks at every exit of the twin's processors from here on. */
  watch(twin: TwinGuest): void {
    const { domain, container } = twin.guest;
    const { machine, state, clock } = domain;
    const run = machine.run.bind(machine);
    machine.run = (id, budget) => {
      const v = state.vcpus[id];
      const { cpu } = v;
      if (v.eventCallback !== 0 && cpu.rip === v.eventCallback) this.note('event', clock.now());
      const exit = run(id, budget);
      if (exit === Exit.exception && cpu.exitVector === PAGE_FAULT)
        this.note(cpu.userMode ? 'user page fault' : 'page fault', clock.now());
      if (exit === Exit.syscall && !cpu.userMode) {
        const nr = cpu.reg(RAX);
        if (nr === __HYPERVISOR_multicall) this.note('multicall', clock.now() - 1);
        if (nr === __HYPERVISOR_event_channel_op && cpu.reg(RDI) === EVTCHNOP_send) {
          const at = machine.translate(id, cpu.reg(RSI), 0);
          if (at > 0 && machine.mem.getU32(at) === container.storePort)
            this.note('store request', clock.now());
        }
      }
      return exit;
    };
  }
}
