import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inRoot } from '../../scripts/lib/root.js';
import { DISK_WROTE, diskWriterElf } from './disk-writer.js';

const BLOCK = 4096;
const BLOCKS = 8;

describe('the program that writes a disk', () => {
  let dir = '';
  beforeAll(() => {
    // Not on a file system in memory: those of older kernels have no O_DIRECT.
    mkdirSync(inRoot('.cache'), { recursive: true });
    dir = mkdtempSync(inRoot('.cache/disk-writer-'));
    writeFileSync(join(dir, 'program'), diskWriterElf(), { mode: 0o755 });
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  /** Lets it write until it has said something twenty times, while `meanwhile` is done again and again: its last words. */
  function wrote(path: string, meanwhile = ':'): { rounds: number; bad: number } {
    const script = `while ${meanwhile}; do sleep 0.005; done & "$1" "$2" ${BLOCKS} 1 | head -n 20; kill $!`;
    const { stdout } = spawnSync('sh', ['-c', script, 'sh', join(dir, 'program'), path], {
      encoding: 'utf8',
    });
    const [, rounds, bad] = [...stdout.matchAll(new RegExp(DISK_WROTE, 'g'))].at(-1) ?? [];
    return { rounds: Number(rounds), bad: Number(bad) };
  }
  function disk(): string {
    const path = join(dir, 'disk');
    writeFileSync(path, '');
    truncateSync(path, BLOCK * BLOCKS);
    return path;
  }

  it('reads back what it has written', () => {
    expect(wrote(disk())).toEqual({ rounds: 200, bad: 0 });
  });

  it('finds a block that another has changed', () => {
    const path = disk();
    const zeros = `dd if=/dev/zero of="$2" bs=${BLOCK} count=${BLOCKS} conv=notrunc 2>/dev/null`;
    expect(wrote(path, zeros).bad).toBeGreaterThan(0);
  });

  it('counts what fails', () => {
    expect(wrote(join(dir, 'no-such-disk')).bad).toBeGreaterThan(0);
  });
});
