/**
 * How guests' processes ended, as the kernel reports it to their parent. The log needs this: a guest that was killed
 * leaves no reason of its own.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** The end of a process: its exit code or the signal that killed it. */
interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** How many processes this machine killed for lack of memory while this one was running. */
  readonly starved: number;
}

interface Watched {
  /** Resolves when the kernel has reported it. */
  readonly ended: Promise<End>;
  end: End | undefined;
  killedBecause: string | undefined;
  readonly memoryLimitKib: number;
}

/** For how many processes this is remembered. */
const KEPT = 1000;
/** The kernel reports an exit a moment after the process's connection has closed. */
const TOLD_MS = 1_000;

const watched = new Map<number, Watched>();

/** Records how `child` ends. `memoryLimitKib`: the limit on its private memory, KiB. */
export function watchEnd(child: ChildProcess, memoryLimitKib: number): void {
  const { pid } = child;
  if (pid === undefined) return;
  const before = endedForMemory();
  const one: Watched = {
    ended: new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        one.end = { code, signal, starved: endedForMemory() - before };
        resolve(one.end);
      });
    }),
    end: undefined,
    killedBecause: undefined,
    memoryLimitKib,
  };
  watched.delete(pid);
  watched.set(pid, one);
  for (const old of watched.keys()) {
    if (watched.size <= KEPT) break;
    watched.delete(old);
  }
}

/** This daemon is about to kill the process; `reason` is kept as the reason of its end. */
export function killedBecause(pid: number, reason: string): void {
  const one = watched.get(pid);
  if (one !== undefined) one.killedBecause ??= reason;
}

/** Why a dead process ended, in words: exit code or signal, and what is known about the reason. */
export async function wordsOfEnd(pid: number): Promise<string> {
  const one = watched.get(pid);
  if (one === undefined) return 'ended unseen (an earlier daemon had started it)';
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((done) => {
    timer = setTimeout(() => done(undefined), TOLD_MS);
  });
  const end = one.end ?? (await Promise.race([one.ended, late]));
  clearTimeout(timer);
  if (end === undefined) return 'ended, and the kernel has not said how';
  return describe(one, end);
}

function describe(
  { killedBecause: killed, memoryLimitKib }: Watched,
  { code, signal, starved }: End,
): string {
  if (signal === null) return `ended with exit code ${code}`;
  const memory = `its private memory is limited to ${Math.round(memoryLimitKib / 1024)} MiB`;
  if (signal === 'SIGKILL') {
    if (killed !== undefined) return `was killed by this daemon (SIGKILL): ${killed}`;
    return starved > 0
      ? 'was killed (SIGKILL) by the kernel, it seems, as this machine was out of memory'
      : 'was killed (SIGKILL) by somebody else';
  }
  // Memory allocators and V8 end the process in these ways when they get no memory.
  if (signal === 'SIGABRT' || signal === 'SIGTRAP' || signal === 'SIGILL')
    return `ended itself by ${signal}; a reason may be a lack of memory (${memory})`;
  return `was ended by ${signal}`;
}

/** How many processes the kernel has killed for lack of memory since it was started. */
function endedForMemory(): number {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
