import { expect, test, vi } from 'vitest';
import { printNote } from './print-note.js';

test('messages beside the results print no control character, not even one that came from a guest', () => {
  const write = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
  printNote('g.cfg:1: \x1b[2Jgone\nand more\u202e');
  expect(write.mock.calls).toEqual([['stillpoint: g.cfg:1: \\x1b[2Jgone\nand more\\u202e\n']]);
  write.mockRestore();
});
