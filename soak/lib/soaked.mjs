// What a soak has found: rows of property, cases tried, failures. Each soak ends by calling this once.
import { appendFileSync } from 'node:fs';

/** Prints the rows, hands them to the run of all soaks if there is one, and ends the process. */
export function soaked(rows) {
  for (const { property, cases, failures } of rows)
    console.log(`${property}: ${cases} cases, ${failures} failures`);
  const table = process.env.STILLPOINT_SOAK_TABLE;
  if (table) appendFileSync(table, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  process.exit(rows.some((row) => row.failures > 0) ? 1 : 0);
}
