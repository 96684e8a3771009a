import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const file = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const ids = (letter: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${letter}${i + 1}`);

it('docs/scenarios.md has every row, and each row names files that contain a test with that name', () => {
  const rows = [...file('docs/scenarios.md').matchAll(/^\| ([A-Z]\w*) \|.*\| ([^|]+) \|$/gm)].map((m) => [
    m[1],
    m[2],
  ]);
  expect(rows.map(([id]) => id)).toEqual([
    ...ids('T', 8),
    ...ids('W', 8),
    ...ids('D', 8),
    ...ids('S', 4),
    'Watches',
  ]);
  for (const [id, files] of rows) {
    const named = [...files.matchAll(/`([^`]+)`/g)].map((m) => m[1]);
    expect(named.length, id).toBeGreaterThan(0);
    for (const path of named)
      expect(file(path), `${id} in ${path}`).toMatch(
        new RegExp(`(it|describe)(\\.skipIf\\([^\\n]*\\))?\\(\\s*['"\`](\\w+, )?${id}[:,]`),
      );
  }
});
