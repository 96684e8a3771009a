/**
 * A host's package is replaced by another version while a guest runs: the new daemon adopts the guest, whose process
 * loads none of the new files, and `migrate localhost` moves it into the new code.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { inRoot } from '../../scripts/lib/root.js';
import { connect } from '../../src/client/index.js';
import { smallKernelElf } from '../../src/demo/small-kernel.js';

const root = mkdtempSync(join(tmpdir(), 'stillpoint-upgrade-'));
// The users of guests' processes pass through it.
chmodSync(root, 0o711);
const home = join(root, 'host');
const installed = join(root, 'package');
const file = (path: string): string => join(installed, 'dist', path);
let end: () => Promise<void> = async () => undefined;

/** Starts the daemon of the package as it is now. */
async function start(): Promise<void> {
  const child = spawn(
    process.execPath,
    [file('cli/main.js'), 'host', '--name', 'A', '--dir', home, '--json'],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  await new Promise((ready) => child.stdout.once('data', ready));
  end = () =>
    new Promise((ended) => {
      child.once('exit', () => ended());
      child.kill('SIGKILL');
    });
}

afterAll(async () => {
  const client = await connect({ directory: home }).catch(() => undefined);
  for (const { uuid } of (await client?.list()) ?? []) await client?.destroy(uuid);
  client?.close();
  await end();
  rmSync(root, { recursive: true, force: true });
});

it('a guest outlives its version, loads none of the new files, and moves into the new code', async () => {
  mkdirSync(installed);
  cpSync(inRoot('package.json'), join(installed, 'package.json'));
  cpSync(inRoot('dist'), join(installed, 'dist'), {
    recursive: true,
    filter: (path) => !/\.(d\.ts|map|tsbuildinfo)$/.test(path),
  });
  symlinkSync(inRoot('node_modules'), join(installed, 'node_modules'));
  writeFileSync(join(root, 'kernel'), smallKernelElf());
  await start();
  let client = await connect({ directory: home });
  const text = 'name = "g"\nkernel = "kernel"\nmemory = 8\nextra = "interval_ms=10"\n';
  const made = await client.create(text, { directory: root });
  expect(made.code).toMatch(/^\d+\.\d+\.\d+-[0-9a-f]{16}$/);
  expect(readdirSync(join(home, 'code'))).toEqual([made.code]);
  client.close();

  // The other version: its thread that sends a guest's memory is not even a program.
  const version = readFileSync(file('protocol/generated/version.js'), 'utf8');
  const other = version.replace(/(['"])\d[^'"]*\1/, "'9.8.7'");
  expect(other).not.toBe(version);
  writeFileSync(file('protocol/generated/version.js'), other);
  writeFileSync(file('migration/sender-worker.js'), 'no program');
  await end();
  await start();
  client = await connect({ directory: home });
  expect(await client.domain('g')).toMatchObject({ domid: made.domid, pid: made.pid, code: made.code });
  expect(await client.info()).toMatchObject({ version: '9.8.7' });

  const move = await client.migrate('g', 'localhost');
  expect(await move.done).toMatchObject({ name: 'g', destination: 'localhost' });
  const moved = await client.domain('g');
  expect(moved.code).toMatch(/^9\.8\.7-[0-9a-f]{16}$/);
  expect([moved.domid, moved.pid]).not.toEqual([made.domid, made.pid]);
  // From there it cannot be sent, as that version cannot send: the first move was done by the old code.
  await expect((await client.migrate('g', 'localhost')).done).rejects.toThrow(/the guest goes on here/);
  expect(readdirSync(join(home, 'code')).sort()).toEqual([made.code, moved.code].sort());
  client.close();
  await end();
  await start();
  expect(readdirSync(join(home, 'code'))).toEqual([moved.code]);
}, 120_000);
