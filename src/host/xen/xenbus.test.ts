import { spawnSync } from 'node:child_process';
import { constants, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { compiled } from '../../../scripts/lib/root.js';
import { XS_READ, XS_WATCH_EVENT } from '../../xen/xs-wire.js';
import { encodeMessage } from '../../xenstore/wire/message.js';

// A thread's code is found beside its module's, and compiled.
const { XenbusDevice } = (await import(
  compiled('src/host/xen/xenbus.ts').href
)) as typeof import('./xenbus.js');

const request = (reqId: number): Uint8Array =>
  encodeMessage({ type: XS_READ, reqId, txId: 0, body: `path${reqId}\0` });
const event = encodeMessage({ type: XS_WATCH_EVENT, reqId: 0, txId: 0, body: 'path\0token\0' });
const empty = encodeMessage({ type: XS_READ, reqId: 2, txId: 0, body: '' });

it('has one request under way at a time, and ends though nobody writes to it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sp-xenbus-'));
  try {
    // A read waits as the device's does. What is read is what this test writes.
    const pipe = join(directory, 'pipe');
    spawnSync('mkfifo', [pipe]);
    const fd = openSync(pipe, constants.O_RDWR);
    const sent: Uint8Array[] = [];
    let closing = false;
    const device = new XenbusDevice(fd, (to, bytes, offset) => {
      if (closing) return writeSync(to, bytes, offset);
      sent.push(bytes);
      return bytes.length;
    });
    let got = 0;
    const ended = vi.fn();
    device.listen((bytes) => void (got += bytes.length), ended);
    const arrives = async (bytes: Uint8Array): Promise<void> => {
      const whole = got + bytes.length;
      writeSync(fd, bytes);
      await vi.waitFor(() => expect(got).toBe(whole), { timeout: 10_000, interval: 5 });
    };
    for (const id of [1, 2, 3, 4]) device.write(request(id));
    expect(sent).toEqual([request(1)]);
    await arrives(event);
    await arrives(request(1).subarray(0, 10));
    await arrives(request(1).subarray(10, 18));
    expect(sent).toEqual([request(1)]);
    // The reply ends amid what arrives.
    await arrives(Buffer.concat([request(1).subarray(18), event.subarray(0, 5)]));
    expect(sent).toEqual([request(1), request(2)]);
    await arrives(event.subarray(5));
    expect(sent.length).toBe(2);
    await arrives(empty);
    expect(sent.length).toBe(3);
    await arrives(Buffer.concat([event, request(3)]));
    expect(sent).toEqual([1, 2, 3, 4].map(request));
    await arrives(request(4));
    device.write(request(5));
    expect(sent.length).toBe(5);
    expect(ended).not.toHaveBeenCalled();
    closing = true;
    await device.close();
    await device.close();
    expect(ended).toHaveBeenCalledTimes(1);
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
