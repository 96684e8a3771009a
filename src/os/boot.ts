/**
 * Which boot of this host it is. A container that is started again has the kernel's boot_id as before, but all of its
 * processes are gone, so the start of its first process counts too.
 */
import { readFileSync } from 'node:fs';

let boot: string | undefined;

/** The same text until the machine, or this container, is started again. */
export function thisBoot(): string {
  boot ??= [readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(), firstProcess()].join('/');
  return boot;
}

/** When process 1 started, in clock ticks since boot; "" where /proc does not show other users' processes. */
function firstProcess(): string {
  try {
    const stat = readFileSync('/proc/1/stat', 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}
