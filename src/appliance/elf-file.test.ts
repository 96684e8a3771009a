import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { neededLibraries, stripped } from './elf-file.js';
import { initElf } from './init.js';

const PROGRAM = '/bin/ls';

test('a program without its section headers is smaller or as large, and runs', () => {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-elf-'));
  try {
    const before = readFileSync(PROGRAM);
    const after = stripped(before, PROGRAM);
    expect(after.length).toBeLessThan(before.length);
    expect(Buffer.from(after).readUInt16LE(60)).toBe(0);
    const file = join(dir, 'ls');
    writeFileSync(file, after);
    chmodSync(file, 0o755);
    expect(spawnSync(file, ['-a', dir], { encoding: 'utf8' }).stdout).toBe('.\n..\nls\n');
    // Nothing is left to drop.
    expect(stripped(after, PROGRAM)).toEqual(after);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('the libraries that a file wants are read from its dynamic section', () => {
  expect(neededLibraries(readFileSync(PROGRAM), PROGRAM)).toContain('libc.so.6');
  expect(neededLibraries(stripped(readFileSync(PROGRAM), PROGRAM), PROGRAM)).toContain('libc.so.6');
  expect(neededLibraries(initElf(), 'init')).toEqual([]);
});

test('an add-on without its section headers is loaded by Node', () => {
  const require = createRequire(import.meta.url);
  const file = require
    .resolve('@koromix/koffi-linux-x64/package.json')
    .replace('package.json', 'linux_x64/koffi.node');
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-elf-'));
  try {
    const copy = join(dir, 'koffi.node');
    writeFileSync(copy, stripped(readFileSync(file), file));
    const { status } = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(copy)})`]);
    expect(status).toBe(0);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a file that is none, or is cut off, is refused by its name', () => {
  expect(() => stripped(new Uint8Array(100), 'a.so')).toThrow(
    'a.so: not an ELF file: no 7f 45 4c 46 at offset 0x0',
  );
  expect(() => stripped(readFileSync(PROGRAM).subarray(0, 5000), 'a.so')).toThrow(
    /a[.]so: .* runs past the end of the file/,
  );
});
