// Ends the processes that daemons leave behind: guests' processes outlive their daemon.
import { readdirSync, readlinkSync } from 'node:fs';

/** Kills all processes whose working directory is below `dir`; for a `dir` that is about to be removed. */
export function endProcessesBelow(dir: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readlinkSync(`/proc/${pid}/cwd`).startsWith(`${dir}/`)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // The process has ended, or belongs to another user.
    }
  }
}
