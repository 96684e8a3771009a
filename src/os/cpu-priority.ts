/**
 * The CPU priority of a guest's process relative to those of running guests: a process that is being prepared for an
 * arriving guest gets a lower one. If autogrouping is on, Linux balances sessions against each other, and otherwise
 * threads by their nice values; so both are set. A setting that is not permitted stays unchanged.
 * Source: sched(7), "The autogroup feature" and "The nice value and group scheduling".
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/** With this value a process gets about a tenth of the share of an equal one. */
const NICE = 10;

/** Lowers the priority of `pid`, which must be the leader of a session of its own. */
export function yieldToOthers(pid: number): void {
  group(pid, NICE);
  // A process without privileges could not restore the nice value.
  if (process.getuid?.() === 0) threads(pid, NICE);
}

/** Undoes yieldToOthers. */
export function competeAgain(pid: number): void {
  group(pid, 0);
  if (process.getuid?.() === 0) threads(pid, 0);
}

function group(pid: number, nice: number): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
  } catch {
    // This kernel has no autogroups.
  }
}

/** Sets the nice value of all threads of `pid` to `difference` above that of this process. */
function threads(pid: number, difference: number): void {
  try {
    const nice = Math.min(19, getPriority(0) + difference);
    for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), nice);
  } catch {
    // The process, or one of its threads, has ended.
  }
}
