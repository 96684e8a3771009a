/** Tests that the demo's network prints nothing while the demo runs, whoever joins and leaves. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { orSkipped } from '../support/debian.js';

const there = await orSkipped("the demo's network", fetchDebian(['passt']));
const dir = mkdtempSync(join(tmpdir(), 'demo-net-'));
afterAll(() => rmSync(dir, { recursive: true }));

const path = (name: string): string => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)));
const SESSION = `
  import net from 'node:net';
  import { startNetwork } from ${path('../../build/scripts/lib/demo-net.js')};
  const network = await startNetwork(${path('../../dist/cli/main.js')}, ${JSON.stringify(join(dir, 'socket'))});
  for (let i = 0; i < 3; i++) {
    const guest = net.connect(${JSON.stringify(join(dir, 'socket'))});
    await new Promise((done) => guest.once('connect', done));
    guest.end();
    await new Promise((done) => guest.once('close', done));
  }
  network.stop();
  console.log('last word');
  process.exit(0);`;

test.skipIf(there === undefined)('the network of the demo starts and ends silently', async () => {
  const said = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', SESSION]);
  expect(said).toEqual({ stdout: 'last word\n', stderr: '' });
});
