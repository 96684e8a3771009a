// The report of a soak: rows of property, cases, failures. Each soak ends by calling this once.
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface SoakRow {
  readonly property: string;
  readonly cases: number;
  readonly failures: number;
}

/** A row that is still being counted. */
export type SoakCount = { -readonly [K in keyof SoakRow]: SoakRow[K] };

/** The part of vitest's JSON report that is used here. */
interface TestReport {
  readonly testResults: readonly {
    readonly assertionResults: readonly { readonly title: string; readonly status: string }[];
  }[];
}

/** Prints the rows, passes them to the run of all soaks if there is one, and ends the process. */
export function soaked(rows: readonly SoakRow[]): never {
  for (const { property, cases, failures } of rows)
    console.log(`${property}: ${cases} cases, ${failures} failures`);
  const table = process.env.STILLPOINT_SOAK_TABLE;
  if (table) appendFileSync(table, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  process.exit(rows.some((row) => row.failures > 0) ? 1 : 0);
}

/**
 * Runs tests as a soak, with more work set by environment variables. There is a row for each test that ran; `cases`
 * returns how many cases a test with a title stands for, if not one; `vitestArguments` are additional arguments of the
 * test runner.
 */
export function soakTests(
  files: readonly string[],
  env: Readonly<Record<string, string>>,
  cases: (title: string) => number = () => 1,
  vitestArguments: readonly string[] = [],
): never {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-soak-'));
  const report = join(directory, 'report.json');
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', ...files, ...vitestArguments];
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${report}`];
  const { status } = spawnSync(process.execPath, [...vitest, ...reporters], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  const rows: SoakRow[] = (JSON.parse(readFileSync(report, 'utf8')) as TestReport).testResults
    .flatMap((file) => file.assertionResults)
    .filter((test) => test.status === 'passed' || test.status === 'failed')
    .map((test) => ({
      property: test.title,
      cases: cases(test.title),
      failures: test.status === 'passed' ? 0 : 1,
    }));
  rmSync(directory, { recursive: true });
  if (rows.length === 0 || (status !== 0 && rows.every((row) => row.failures === 0)))
    rows.push({ property: `${files.join(' ')} can be run`, cases: 1, failures: 1 });
  soaked(rows);
}
