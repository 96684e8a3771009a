/** Reads the line in which an observer says what it has seen (observer.ts tells the line). */
import { chainAfter } from './observing.js';

/** One verdict. Its groups are what `verdictIn` reads. */
export const VERDICT =
  /OBS VERDICT n=(\d+) cpus=(\d+) mono=\d+ real=(\d+) tsc=\d+ gap=(-?\d+) back=(\d+) diff=(\d+) chain=([0-9a-f]{16})/;

export interface Verdict {
  readonly samples: number;
  readonly cpus: number;
  /** The guest's wall clock, ns since 1970. */
  readonly realNs: number;
  /** The longest time between two looks at the clock, ns; less than 0 if each came early. */
  readonly gapNs: number;
  /** How many clocks ran backwards. */
  readonly backwards: number;
  readonly differences: number;
  /** True if the observer's computation has the right result after this number of samples. */
  readonly right: boolean;
}

/** `found` is a match of VERDICT. */
export function verdictIn(found: RegExpMatchArray): Verdict {
  const [samples, cpus, realNs, gapNs, backwards, differences] = found.slice(1, 7).map(Number);
  const right = found[7] === chainAfter(samples).toString(16).padStart(16, '0');
  return { samples, cpus, realNs, gapNs, backwards, differences, right };
}
