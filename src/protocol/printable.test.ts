import { expect, it } from 'vitest';
import { printable, printableJson, printableLines } from './printable.js';

const NASTY = 'a\x1b[31m\r\n\t\x9b2J\u202eb\u2028\u200b\ud800\u{e0001}é😀';

it('shows what a terminal would obey, and leaves all else', () => {
  expect(printable(NASTY)).toBe('a\\x1b[31m\\r\\n\\t\\x9b2J\\u202eb\\u2028\\u200b\\ud800\\u{e0001}é😀');
  expect(printableLines('one\n\ttwo\x1b')).toBe('one\n\ttwo\\x1b');
  expect(printable('x'.repeat(20), 5)).toBe('xxxxx...');
});

it('leaves JSON what it is', () => {
  const json = printableJson(`${JSON.stringify({ text: NASTY })}\n`);
  expect(json.slice(0, -1)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}]/u);
  expect(JSON.parse(json)).toEqual({ text: NASTY });
});
