// Ends what daemons have left: guests' processes outlive them.
import { readdirSync, readlinkSync } from 'node:fs';

/** Kills all processes that work in a directory below `dir`; for a `dir` that is about to be removed. */
export function endProcessesBelow(dir: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readlinkSync(`/proc/${pid}/cwd`).startsWith(`${dir}/`)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended, or is not ours.
    }
  }
}
