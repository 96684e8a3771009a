import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cutLog, lastLine, sizeOfDirectory } from './process-log.js';

describe('what a guest process may write', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'process-log-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('logs are cut to their last part, and the size of a directory is counted only up to a limit', () => {
    const path = join(dir, 'log');
    writeFileSync(path, `${'x'.repeat(2 << 20)}\nthe \x1b[31mend\n`);
    expect(lastLine(path)).toBe('the \\x1b[31mend');
    cutLog(path);
    expect(readFileSync(path, 'utf8')).toBe('');
    expect(lastLine(`${path}.1`)).toBe('the \\x1b[31mend');
    mkdirSync(join(dir, 'more'));
    for (let i = 0; i < 20; i++) writeFileSync(join(dir, 'more', String(i)), 'x'.repeat(5000));
    linkSync(join(dir, 'more', '0'), join(dir, 'second'));
    const whole = sizeOfDirectory(dir, 100, new Set());
    expect(whole.names).toBe(24);
    expect(whole.bytes).toBeGreaterThanOrEqual(21 * 8192);
    expect(sizeOfDirectory(dir, 10, new Set()).names).toBeLessThan(13);
    expect(sizeOfDirectory(dir, 100, new Set([join(dir, 'second')])).bytes).toBeLessThan(whole.bytes);
  });
});
