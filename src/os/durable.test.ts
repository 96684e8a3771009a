import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { check } from '../protocol/check.js';
import { readJson, readOrSetAside, removeUnfinished, writeDurable } from './durable.js';
import { readForeign } from './foreign-directory.js';

describe('durable files', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'durable-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('are replaced as a whole', () => {
    const path = join(dir, 'a.json');
    writeDurable(path, { of: 'old'.repeat(100) });
    writeDurable(path, { of: 'new' });
    expect(readJson(path)).toEqual({ of: 'new' });
    expect(readdirSync(dir)).toEqual(['a.json']);
  });

  it('that cannot be replaced leave nothing beside them', () => {
    const path = join(dir, 'a.json');
    mkdirSync(join(path, 'in the way'), { recursive: true });
    expect(() => writeDurable(path, 1)).toThrow();
    expect(readdirSync(dir)).toEqual(['a.json']);
  });

  it('are cleaned of what a writer left that died', () => {
    writeDurable(join(dir, 'a.json'), 1);
    writeFileSync(join(dir, 'a.json.new'), '{"ha');
    writeFileSync(join(dir, 'b.json.new'), '');
    removeUnfinished(dir);
    expect(readdirSync(dir)).toEqual(['a.json']);
  });

  it('that are damaged are set aside under another name, and reported by their own', () => {
    const path = join(dir, 'a.json');
    const told: string[] = [];
    const read = (): unknown =>
      readOrSetAside(
        path,
        (value) => check(v.object({ of: v.number() }), value, 'a thing'),
        (m) => told.push(m),
      );
    expect(read()).toBeUndefined();
    for (const text of ['', '{"of":', 'null', '{"of":"x"}']) {
      writeFileSync(path, text);
      expect(read()).toBeUndefined();
      expect(told.pop()).toContain(path);
    }
    expect(readdirSync(dir)).toEqual(['', '.2', '.3', '.4'].map((end) => `a.json.damaged${end}`));
    writeFileSync(path, '{"of":1}');
    expect(read()).toEqual({ of: 1 });
    expect(told).toEqual([]);
  });

  it('of others are read only if they are regular files, and only up to their limit', () => {
    const path = join(dir, 'a');
    writeFileSync(path, 'first\nlast');
    expect(readForeign(path, 100)).toBe('first\nlast');
    expect(readForeign(path, 5)).toBe('');
    expect(readForeign(path, 4, 'end')).toBe('last');
    symlinkSync(path, join(dir, 'link'));
    expect(readForeign(join(dir, 'link'), 100)).toBe('');
    linkSync(path, join(dir, 'second'));
    expect(readForeign(path, 100)).toBe('');
    for (const other of ['/dev/zero', dir, join(dir, 'none')]) expect(readForeign(other, 100)).toBe('');
  });
});
