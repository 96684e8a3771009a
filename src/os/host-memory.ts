/** How much memory this machine has, or the cgroup that limits this process. */
import { freemem, totalmem } from 'node:os';

const KIB = 1024;

/** In KiB. `availableKib`: what new processes can have without taking it from others (MemAvailable). */
export function hostMemory(): { totalKib: number; availableKib: number } {
  // 0, or a number beyond all memory: there is no limit. Node has these two since 20.13.
  const limit = process.constrainedMemory?.() ?? 0;
  const total = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  const available = Math.min(process.availableMemory?.() ?? freemem(), freemem());
  return { totalKib: Math.floor(total / KIB), availableKib: Math.floor(available / KIB) };
}
