import { describe, expect, it, vi } from 'vitest';
import { isAlive, startTicks } from './spawn.js';

const trouble = vi.hoisted(() => ({ code: '' }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return {
    ...fs,
    readFileSync: (...args: Parameters<typeof fs.readFileSync>) => {
      if (trouble.code !== '') throw Object.assign(new Error(trouble.code), { code: trouble.code });
      return fs.readFileSync(...args);
    },
  };
});

describe('whether a process lives', () => {
  const { pid } = process;
  const me = { pid, startTicks: startTicks(pid)! };

  it('is told by its number and its start', () => {
    expect(isAlive(me)).toBe(true);
    expect(isAlive({ pid, startTicks: me.startTicks + 1 })).toBe(false);
  });

  it.each(['EMFILE', 'ENFILE', 'ENOMEM'])('is not denied by a daemon that cannot look (%s)', (code) => {
    trouble.code = code;
    try {
      expect(isAlive(me)).toBe(true);
      expect(isAlive({ pid: 0x3fff_ffff, startTicks: 1 })).toBe(false);
    } finally {
      trouble.code = '';
    }
  });
});
