/**
 * Finds by bisection the first difference that a move makes: which move, and the first instruction after it at which
 * the registers, or else the memories, of the two guests differ.
 */

import { decodeAt } from '../../src/hypervisor/emulation/decode-at.js';
import { Formatter, FormatterSyntax } from '../../src/x86/iced.js';
import { difference } from './compare.js';
import type { TwinGuest } from './twin.js';

/** How many instructions both guests execute after the move, one at a time, to be compared. */
const SIDE_BY_SIDE = 200_000;

/** Runs a guest with the first `moves` of a list of moves, to the end or to just after the last one. */
export interface Rerun {
  readonly moves: number;
  run(moves: number, toEnd: boolean): Promise<TwinGuest>;
  still(until: number | undefined): Promise<TwinGuest>;
}

export async function firstDifference(r: Rerun, still: TwinGuest): Promise<string> {
  let good = 0;
  let bad = r.moves;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const twin = await r.run(middle, true);
    if (difference(still, twin) === undefined) good = middle;
    else bad = middle;
  }
  const moved = await r.run(bad, false);
  const stayed = await r.still(moved.now);
  const at = `move ${bad} at ${moved.now} instructions`;
  const now = difference(stayed, moved);
  if (now !== undefined) return `${at}: different at once: ${now}`;
  for (let i = 0; i < SIDE_BY_SIDE && !stayed.done; i++) {
    const instruction = describe(stayed);
    stayed.runTo(stayed.now + 1);
    moved.runTo(moved.now + 1);
    const registers = otherRegisters(stayed, moved);
    if (registers !== undefined)
      return `${at}: ${i + 1} instructions later, after ${instruction}: ${registers}`;
  }
  const later = difference(stayed, moved);
  return `${at}: registers the same for ${SIDE_BY_SIDE} instructions, then: ${later ?? 'still no difference'}`;
}

function otherRegisters(a: TwinGuest, b: TwinGuest): string | undefined {
  const [x, y] = [a, b].map((t) => t.guest.domain.state.vcpus);
  for (const [i, v] of x.entries()) {
    const [p, q] = [v.cpu, y[i].cpu];
    if (p.rip !== q.rip) return `vCPU ${i} rip ${p.rip.toString(16)} and ${q.rip.toString(16)}`;
    if (p.rflags !== q.rflags)
      return `vCPU ${i} rflags ${p.rflags.toString(16)} and ${q.rflags.toString(16)}`;
    for (let n = 0; n < 16; n++) {
      if (p.regBig(n) !== q.regBig(n))
        return `vCPU ${i} register ${n}: ${p.regBig(n).toString(16)} and ${q.regBig(n).toString(16)}`;
    }
  }
  return undefined;
}

function describe(t: TwinGuest): string {
  const { domain } = t.guest;
  const v = domain.state.current;
  const instruction = decodeAt(domain.engine, v.id, v.cpu.rip);
  const rip = BigInt.asUintN(64, BigInt(v.cpu.rip)).toString(16);
  if (instruction === null) return `vCPU ${v.id} at ${rip}`;
  const formatter = new Formatter(FormatterSyntax.Nasm);
  const text = `vCPU ${v.id} at ${rip}: ${formatter.format(instruction)}`;
  instruction.free();
  formatter.free();
  return text;
}
