import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readJson, removeUnfinished, writeDurable } from './durable.js';

describe('durable files', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'durable-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('are replaced whole', () => {
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

  it('are rid of what a writer that died has left', () => {
    writeDurable(join(dir, 'a.json'), 1);
    writeFileSync(join(dir, 'a.json.new'), '{"ha');
    writeFileSync(join(dir, 'b.json.new'), '');
    removeUnfinished(dir);
    expect(readdirSync(dir)).toEqual(['a.json']);
  });
});
