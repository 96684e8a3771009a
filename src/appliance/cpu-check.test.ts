import { expect, test } from 'vitest';
import { cpuFault } from './cpu-check.js';

const processor = (number: number, flags: string): string =>
  `processor\t: ${number}\nmodel name\t: of a test\nflags\t\t: fpu sse sse2 ${flags}\nbugs\t\t: none\n\n`;

test('a processor with SSSE3 and SSE4.1 has no fault', () => {
  expect(cpuFault(processor(0, 'ssse3 sse4_1 sse4_2') + processor(1, 'sse4_1 ssse3'))).toBeUndefined();
});

test('what is missing is named as manuals name it, even on one processor of several', () => {
  expect(cpuFault(processor(0, 'pni sse4_1'))).toMatch(/lacks SSSE3, which is an instruction set/);
  expect(cpuFault(processor(0, 'pni'))).toMatch(/lacks SSSE3 and SSE4[.]1, which are/);
  expect(cpuFault(processor(0, 'ssse3 sse4_1') + processor(1, 'ssse3'))).toMatch(/lacks SSE4[.]1/);
  // Not a part of another word.
  expect(cpuFault(processor(0, 'xssse3 sse4_1x'))).toMatch(/lacks SSSE3 and SSE4[.]1/);
});

test('a text without flags is a fault', () => {
  expect(cpuFault('')).toMatch(/no line "flags"/);
});
