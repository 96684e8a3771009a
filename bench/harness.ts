// The small harness of all benches: medians, ratios, and with --json one object a line. Competitors are measured in the
// same run, interleaved, so that a ratio is valid on a noisy machine.

export const json = process.argv.includes('--json');

/** Returns the median of a non-empty list of numbers. */
export const median = (list: readonly number[]): number => {
  const sorted = [...list].sort((a, b) => a - b);
  const mid = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[mid] : (sorted[mid - 1] + sorted[mid]) / 2;
};

/** Prints one figure: a line for people, or one JSON object a line. `value` in `unit`. */
export const report = (
  bench: string,
  name: string,
  value: number,
  unit: string,
  extra: Readonly<Record<string, number | string>> = {},
): void => {
  if (json) console.log(JSON.stringify({ bench, name, value, unit, ...extra }));
  else {
    const extras = Object.entries(extra)
      .map(([k, v]) => `${k} ${typeof v === 'number' ? format(v) : v}`)
      .join(', ');
    console.log(`${name.padEnd(44)} ${format(value).padStart(12)} ${unit}${extras ? `   (${extras})` : ''}`);
  }
};

const format = (v: number): string =>
  Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en-US') : Number(v.toPrecision(4)).toString();

/** A function to be timed: it returns its own seconds, or else the time until it has finished is taken. */
export type Contender = () => unknown;

export interface Times {
  /** The times in seconds. */
  readonly median: number;
  readonly all: readonly number[];
}

/** Runs each contender in turn, `rounds` times after one warm-up. Returns all times in seconds, and their median. */
export const interleave = async <K extends string>(
  contenders: Readonly<Record<K, Contender>>,
  rounds = 5,
): Promise<Record<K, Times>> => {
  const names = Object.keys(contenders) as K[];
  const times = new Map(names.map((name): [K, number[]] => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, all] of times) {
      const run = contenders[name];
      const start = process.hrtime.bigint();
      const own = await run();
      const seconds = typeof own === 'number' ? own : Number(process.hrtime.bigint() - start) / 1e9;
      if (round >= 0) all.push(seconds);
    }
  }
  const result = {} as Record<K, Times>;
  for (const [name, all] of times) result[name] = { median: median(all), all };
  return result;
};
