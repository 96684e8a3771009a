/** The machine that `xl` runs on, which stands for Domain-0 and for the host of `xl info`. */
import { cpus, freemem, hostname, machine, release, totalmem, uptime, version } from 'node:os';

export const DOM0_NAME = 'Domain-0';
export const DOM0_UUID = '00000000-0000-0000-0000-000000000000';

export interface Machine {
  readonly host: string;
  readonly release: string;
  readonly version: string;
  readonly machine: string;
  readonly cpus: number;
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly uptimeS: number;
  /** Processor time that was used since the boot, by each processor, s. */
  readonly busyS: readonly number[];
  /** Now, by its wall clock. */
  readonly now: Date;
}

export function thisMachine(): Machine {
  const all = cpus();
  return {
    host: hostname(),
    release: release(),
    version: version(),
    machine: machine(),
    cpus: all.length,
    totalBytes: totalmem(),
    freeBytes: freemem(),
    uptimeS: Math.floor(uptime()),
    busyS: all.map(({ times }) => (times.user + times.nice + times.sys + times.irq) / 1000),
    now: new Date(),
  };
}
