import { spawnSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync } from 'node:fs';
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
