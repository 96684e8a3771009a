// Runs a kernel as a program of this machine, directly or under an emulator.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** What a kernel writes at its end: its result, then a number, 8 bytes each. */
export const OUTPUT_BYTES = 16;
/** The number of instructions between the two time stamps that are not the kernel's, in linux.S and in bare.S. */
export const FRAME = 7;

/** One run of a kernel: its result, and the processor seconds between its two time stamps. */
export interface Run {
  readonly result: bigint;
  readonly seconds: number;
}

export function runProgram([file, ...args]: readonly [string, ...string[]]): Run {
  const r = spawnSync(file, args);
  if (r.error) throw r.error;
  if (r.status !== 0 || r.stdout.length !== OUTPUT_BYTES)
    throw new Error(`${[file, ...args].join(' ')} ended with status ${r.status}\n${r.stderr}`);
  return { result: r.stdout.readBigUInt64LE(0), seconds: Number(r.stdout.readBigUInt64LE(8)) / 1e9 };
}

/**
 * Processor time of a process so far, or of one of its threads. Unlike real time, it does not depend on the machine's
 * load.
 */
export function processorSeconds(pid: number, thread?: number): number {
  const tasks = thread === undefined ? readdirSync(`/proc/${pid}/task`) : [thread];
  const times = tasks.map((t) =>
    Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'latin1').split(' ')[0]),
  );
  return times.reduce((sum, ns) => sum + ns, 0) / 1e9;
}
