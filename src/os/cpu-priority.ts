/**
 * How a guest's process competes for processors with those of running guests: one that is being made ready for a guest
 * that arrives yields to them. Linux weighs sessions against each other where it groups by session, and threads within
 * a session or a service by their nice values; so both are set. What is not allowed here is left as it is.
 * Source: sched(7), "The autogroup feature" and "The nice value and group scheduling".
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/** About a tenth of what an equal gets. */
const NICE = 10;

/** From now on `pid`, the leader of a session of its own, yields to others. */
export function yieldToOthers(pid: number): void {
  group(pid, NICE);
  // Without privilege it could not be taken back.
  if (process.getuid?.() === 0) threads(pid, NICE);
}

/** Takes yieldToOthers back. */
export function competeAgain(pid: number): void {
  group(pid, 0);
  if (process.getuid?.() === 0) threads(pid, 0);
}

function group(pid: number, nice: number): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice));
  } catch {
    // No such groups here.
  }
}

/** All threads of `pid`, so much more than this process has itself. */
function threads(pid: number, more: number): void {
  try {
    const nice = Math.min(19, getPriority(0) + more);
    for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), nice);
  } catch {
    // It ended, or a thread of it.
  }
}
