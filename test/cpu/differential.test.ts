/**
 * Compares the machine with the processor that it runs on: first the named cases, then random sequences over every form
 * that the machine executes. The seed is printed; STILLPOINT_CPU_SEED repeats a run, STILLPOINT_CPU_SEQUENCES sets its
 * length, and STILLPOINT_CPU_INDEX runs a single sequence of it. STILLPOINT_CPU_COMPAT and STILLPOINT_CPU_COMPAT_INDEX
 * do the same for sequences of compatibility mode. STILLPOINT_CPU_COUNTS=1 prints how often each form came up.
 */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { CASES } from './cases.js';
import { compatForms } from './compat-generate.js';
import { executedForms } from './executed.js';
import { BATCH } from './layout.js';
import { whyLeftOut } from './left-out.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const seed = Number(process.env.STILLPOINT_CPU_SEED ?? randomInt(2 ** 31));
const only = process.env.STILLPOINT_CPU_INDEX;
const onlyCompat = process.env.STILLPOINT_CPU_COMPAT_INDEX;
const sequences = Number(process.env.STILLPOINT_CPU_SEQUENCES ?? 100_000);
const compat = Number(process.env.STILLPOINT_CPU_COMPAT ?? 2000);
const single = only !== undefined || onlyCompat !== undefined;
const WORKERS = 2;
/** The number of sequences of compatibility mode with which every form comes up. */
const ENOUGH_COMPAT = 8000;
const MILLISECONDS_A_SEQUENCE = 5;
/**
 * One in so many sequences also runs in translated code: each takes a module, of which a process can have a limited
 * number.
 */
const TRANSLATED_SHARE = 20;
const MOST_TRANSLATED = 20_000;
/** With so many sequences, a form that never comes up is one that is not generated. */
const ENOUGH = 50_000;

interface Line {
  readonly at?: number;
  readonly failed?: number;
  readonly text?: string;
  readonly done?: boolean;
  /** The number of pieces of code that were translated. */
  readonly regions?: number;
  readonly counts?: readonly (readonly [string, number])[];
  readonly name?: string;
  readonly found?: readonly string[];
}

/** The tier of this test run. */
const TIER = process.env.STILLPOINT_TIER ?? 'normal';

/** Runs the child process. Returns the lines that it prints, and how it ended. */
async function runChild(args: readonly string[], take: (line: Line) => void, tier = TIER): Promise<string> {
  const child = spawn(process.execPath, ['build/test/cpu/differential.js', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, STILLPOINT_TIER: tier },
  });
  const closed = new Promise<string>((resolve) => {
    child.on('close', (code, signal) => resolve(signal ?? `status ${code}`));
  });
  for await (const line of createInterface({ input: child.stdout })) take(JSON.parse(line) as Line);
  return closed;
}

/** Returns all failures in a range of the random sequences; adds the forms that came up to `counts`. */
async function runRange(
  from: number,
  to: number,
  counts: Map<string, number>,
  tier = TIER,
  mode?: 'compat',
): Promise<string[]> {
  const problems: string[] = [];
  let at = from;
  let done = false;
  let regions = 0;
  const index = mode === 'compat' ? 'STILLPOINT_CPU_COMPAT_INDEX' : 'STILLPOINT_CPU_INDEX';
  const take = (said: Line): void => {
    at = said.at ?? at;
    if (said.failed !== undefined)
      problems.push(
        `STILLPOINT_TIER=${tier} STILLPOINT_CPU_SEED=${seed} ${index}=${said.failed}\n${said.text}`,
      );
    for (const [name, count] of said.counts ?? []) counts.set(name, (counts.get(name) ?? 0) + count);
    regions = said.regions ?? regions;
    done ||= said.done === true;
  };
  const end = await runChild(
    [`${seed}`, `${from}`, `${to}`, ...(mode === undefined ? [] : [mode])],
    take,
    tier,
  );
  if (!done) problems.push(`the child ended with ${end} in the batch at ${at} of seed ${seed}`);
  else if (mode === undefined && tier === 'translate' && regions < (to - from) / 2)
    problems.push(`${regions} regions were translated in ${to - from} sequences`);
  return problems;
}

function printCounts(counts: ReadonlyMap<string, number>): void {
  const sorted = [...counts].sort((a, b) => a[1] - b[1]);
  const middle = sorted[sorted.length >> 1][1];
  const [[rarest, least]] = sorted;
  const [often, most] = sorted[sorted.length - 1];
  console.log(
    `${sorted.length} forms, each ${least} (${rarest}) to ${most} (${often}) times, in the middle ${middle}`,
  );
  if (process.env.STILLPOINT_CPU_COUNTS === '1')
    for (const [name, count] of sorted) console.log(`${String(count).padStart(8)} ${name}`);
}

const here = process.arch === 'x64' && process.platform === 'linux';
if (!here)
  console.warn(
    `The machine is not compared with a processor: that takes Linux on x86-64, not ${process.platform} on ${process.arch}.`,
  );

describe.skipIf(!here)('the machine does what the processor does', () => {
  describe.skipIf(single)('in cases that once failed, or nearly:', () => {
    const found = new Map<string, readonly string[]>();
    let end = '';
    beforeAll(async () => {
      end = await runChild(['cases'], (line) => void found.set(line.name ?? '', line.found ?? []));
    });
    it.each(CASES.map((c) => [c.name] as const))('%s', (name) => {
      expect(found.get(name), `the child ended with ${end}`).toEqual([]);
    });
  });

  it.skipIf(onlyCompat !== undefined)(
    `in ${sequences} random sequences`,
    {
      timeout: 120_000 + sequences * MILLISECONDS_A_SEQUENCE,
    },
    async () => {
      console.log(`cpu differential test: seed ${seed}, ${sequences} sequences`);
      const counts = new Map<string, number>();
      if (only !== undefined) {
        expect((await runRange(Number(only), Number(only) + 1, counts)).join('\n\n')).toBe('');
        return;
      }
      const share = Math.ceil(sequences / WORKERS / BATCH) * BATCH;
      const problems = await Promise.all(
        Array.from({ length: WORKERS }, (_, i) =>
          runRange(i * share, Math.min((i + 1) * share, sequences), counts),
        ),
      );
      expect(problems.flat().join('\n\n')).toBe('');
      printCounts(counts);
      if (sequences < ENOUGH) return;
      const missing = executedForms().filter((name) => !counts.has(name) && whyLeftOut(name) === undefined);
      expect(missing, 'executed by the machine, but never compared').toEqual([]);
    },
  );

  it.skipIf(only !== undefined)(
    'in compatibility mode, in flat and other segments, 32-bit and 16-bit code',
    { timeout: 120_000 + 2 * MILLISECONDS_A_SEQUENCE * compat },
    async () => {
      console.log(`cpu differential test: seed ${seed}, ${compat} sequences of compatibility mode`);
      const counts = new Map<string, number>();
      const [from, to] =
        onlyCompat === undefined ? [0, compat] : [Number(onlyCompat), Number(onlyCompat) + 1];
      const problems = await runRange(from, to, counts, TIER, 'compat');
      expect(problems.join('\n\n')).toBe('');
      if (to - from < ENOUGH_COMPAT) return;
      const missing = compatForms().filter((f) => !counts.has(f.name));
      expect(
        missing.map((f) => f.name),
        'never compared',
      ).toEqual([]);
    },
  );

  // Where everything is interpreted, nothing is translated.
  it.skipIf(single || TIER === 'interpreter')(
    'in translated code as well',
    { timeout: 120_000 + MILLISECONDS_A_SEQUENCE * sequences },
    async () => {
      const length = Math.min(MOST_TRANSLATED, Math.ceil(sequences / TRANSLATED_SHARE));
      console.log(`cpu differential test: seed ${seed}, ${length} sequences translated`);
      const problems = await runRange(sequences, sequences + length, new Map(), 'translate');
      expect(problems.join('\n\n')).toBe('');
    },
  );
});
