import { spawnSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { compiled } from '../../../scripts/lib/root.js';

// A thread's code is found beside its module's, and compiled.
const { XenbusDevice } = (await import(
  compiled('src/host/xen/xenbus.ts').href
)) as typeof import('./xenbus.js');

it('carries bytes both ways over a device, and ends though nobody writes to it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sp-xenbus-'));
  try {
    // A pipe that is open for reading and writing gives back what it gets, and a read waits as the device's does.
    const pipe = join(directory, 'pipe');
    spawnSync('mkfifo', [pipe]);
    const device = new XenbusDevice(openSync(pipe, constants.O_RDWR));
    const got: number[] = [];
    const ended = vi.fn();
    device.listen((bytes) => got.push(...bytes), ended);
    device.write(Uint8Array.of(1, 2, 3));
    await vi.waitFor(() => expect(got).toEqual([1, 2, 3]), { timeout: 10_000 });
    device.write(Uint8Array.of(4));
    await vi.waitFor(() => expect(got).toEqual([1, 2, 3, 4]), { timeout: 10_000 });
    expect(ended).not.toHaveBeenCalled();
    await device.close();
    await device.close();
    expect(ended).toHaveBeenCalledTimes(1);
    expect(got.length).toBe(4);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

it('keeps a program alive that only waits for an answer', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sp-xenbus-'));
  try {
    const pipe = join(directory, 'pipe');
    spawnSync('mkfifo', [pipe]);
    const program = join(directory, 'program.mjs');
    const source = `
      import { constants, openSync } from 'node:fs';
      import { XenbusDevice } from ${JSON.stringify(compiled('src/host/xen/xenbus.ts').href)};
      const device = new XenbusDevice(openSync(process.argv[2], constants.O_RDWR));
      const got = await new Promise((resolve) => device.listen(resolve, () => undefined));
      await device.close();
      console.log(got[0]);`;
    writeFileSync(program, source);
    // Opened for reading too, so that the shell does not wait for a program that has ended.
    const script = '"$1" "$2" "$3" & sleep 1; printf A 1<>"$3"; wait $!';
    const { stdout, status } = spawnSync('sh', ['-c', script, 'sh', process.execPath, program, pipe], {
      encoding: 'utf8',
    });
    expect([status, stdout]).toEqual([0, '65\n']);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
