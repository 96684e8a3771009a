/**
 * Tests that whatever comes from outside is unknown until it has been checked against a declaration: no cast bypasses
 * that.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));
/** The only file that may parse JSON; its result has the type `unknown`. */
const PARSER = 'protocol/json.ts';
/** A cast that a library's types require has a comment beside it in this form, with the reason. */
const REASON = /\/\/ Types: .{20}/;

const sources = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(
  (name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !/(^|\/)(generated|core)\//.test(name),
);

/** Returns the breaches of the rule in a file, each with its line. */
function breaches(name: string, text: string): string[] {
  const lines = text.split('\n');
  return lines.flatMap((line, i) => {
    const at = `${name}:${i + 1}: ${line.trim()}`;
    const cast = /\bas unknown as\b|\bas any\b(?! )/.test(line);
    if (cast && ![lines[i - 1], lines[i - 2], line].some((one) => REASON.test(one ?? ''))) return [at];
    if (/\bJSON\.parse\b/.test(line) && name !== PARSER) return [at];
    return /\b(parseJson|readJson)\([^;]*\)\s*as\b/.test(line) ? [at] : [];
  });
}

it('no source casts parsed data, or anything by way of unknown, without a reason', () => {
  expect(sources.length).toBeGreaterThan(300);
  expect(sources.flatMap((name) => breaches(name, readFileSync(join(SRC, name), 'utf8')))).toEqual([]);
});

it('finds what it is meant to find', () => {
  for (const bad of [
    'const x = y as unknown as Z;',
    'const x = JSON.parse(text);',
    'const x = parseJson(text) as Z;',
    '// A comment that gives no reason.\nconst x = y as unknown as Z;',
  ])
    expect(breaches('a.ts', bad), bad).toHaveLength(1);
  expect(
    breaches('a.ts', '// Types: the library declares it as an object.\nconst x = y as unknown as Z;'),
  ).toEqual([]);
});
