import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LogOutput } from './log-output.js';

/** A file descriptor that accepts `room` bytes and then fails like a full disk. */
function disk(room: number) {
  let text = '';
  return {
    room,
    get text() {
      return text;
    },
    write(_descriptor: number, bytes: Uint8Array, from: number): number {
      const taken = Math.min(this.room, bytes.length - from);
      if (taken === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      this.room -= taken;
      text += Buffer.from(bytes.subarray(from, from + taken)).toString();
      return taken;
    },
  };
}

describe('the output of a log', () => {
  it('loses lines on a full disk, continues when there is space, and reports how many are missing', () => {
    const full = disk(16);
    const output = new LogOutput(1, full.write.bind(full));
    for (const word of ['first', 'second', 'third']) output.write(`${word} line\n`);
    expect(full.text).toBe('first line\nsecon');
    full.room = 1000;
    output.write('fourth line\n');
    output.write('fifth line\n');
    expect(full.text).toBe('first line\nsecon\n2 lines could not be written\nfourth line\nfifth line\n');
  });

  it('does no harm to a process whose output is on a full disk', () => {
    const fd = openSync('/dev/full', 'w');
    const { href } = new URL('../../dist/os/log-output.js', import.meta.url);
    const program = `const { logLine } = await import('${href}'); logLine('lost'); setTimeout(() => process.exit(7), 50);`;
    const ran = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', fd, 'inherit'],
    });
    closeSync(fd);
    expect(ran.status).toBe(7);
  });
});
