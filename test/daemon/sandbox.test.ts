import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import { connectDaemon } from '../../src/cli/daemon-client.js';
import { initIdentity } from '../../src/daemon/identity.js';
import { loadLibc } from '../../src/daemon/libc.js';
import { until } from '../migration/hosts.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const PROBE = new URL('./sandbox-probe.mjs', import.meta.url).href;
const ROOT = process.getuid?.() === 0;
const NOBODY = 65_534;
const EPERM = -1;
const EAFNOSUPPORT = -97;

const libc = await loadLibc();
/** Version of Landlock here; below 6 it knows no scopes. */
const landlock = libc?.createRuleset(null, 0, 1) ?? 0;
let clean: (() => Promise<void>) | undefined;
afterEach(() => clean?.());

/** What a guest process that was taken over can do on a daemon of this user. */
async function probed(uid: number | undefined): Promise<Record<string, unknown>> {
  const root = mkdtempSync(join(tmpdir(), 'stillpoint-sandbox-'));
  chmodSync(root, 0o755);
  const dir = join(root, 'host');
  const victim = join(dir, 'guests', '77');
  await initIdentity(dir);
  const config = join(root, 'host.json');
  writeFileSync(config, JSON.stringify({ runner: PROBE }));
  if (uid !== undefined) execFileSync('chown', ['-R', `${uid}:${uid}`, root]);
  const server = net.createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const daemon: ChildProcess = spawn(
    process.execPath,
    [MAIN, 'host', '--name', 'A', '--dir', dir, '--config', config],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    },
  );
  clean = async () => {
    const rpc = await connectDaemon({ dir });
    await rpc.request('destroy', { guest: 'probe' }).catch(() => {});
    rpc.close();
    daemon.kill('SIGKILL');
    server.close();
    rmSync(root, { recursive: true, force: true });
  };
  await new Promise((done) => daemon.stdout!.once('data', done));
  // Another guest's file; of another user where each guest has its own.
  mkdirSync(victim, { recursive: true });
  const secret = join(victim, 'owner.json');
  writeFileSync(secret, 'a secret');
  chmodSync(secret, 0o600);
  chmodSync(victim, 0o700);
  if (uid !== undefined) for (const path of [victim, secret]) chownSync(path, uid, uid);
  const told = {
    other: secret,
    daemonPid: daemon.pid,
    daemonDir: dir,
    socket: (server.address() as net.AddressInfo).port,
  };
  const rpc = await connectDaemon({ dir });
  const text = `name = "probe"\nprobe = "${Buffer.from(JSON.stringify(told)).toString('hex')}"\n`;
  await rpc.request('create', { config: text, file: 'probe.cfg', directory: root });
  const line = await until('the probe', async () => {
    const { latest } = await rpc.request<{ latest: string }>('console', { guest: 'probe' });
    return /PROBE (.*) END/.exec(Buffer.from(latest, 'base64').toString())?.[1];
  });
  rpc.close();
  return JSON.parse(line);
}

const REFUSED = {
  shell: 'EACCES',
  ownProgram: 'EACCES',
  ptrace: EPERM,
  readMemory: EPERM,
  signal: 'EPERM',
  mount: EPERM,
  userNamespace: EPERM,
  cloneNamespace: EPERM,
  bpf: EPERM,
  perf: EPERM,
  ioUring: EPERM,
  clock: EPERM,
  keys: EPERM,
  netlink: EAFNOSUPPORT,
  packet: EAFNOSUPPORT,
  otherGuest: 'EACCES',
  otherGuestLater: 'EACCES',
  hostsKey: 'EACCES',
  guests: 'EACCES',
};
const GOES_ON = {
  noNewPrivileges: true,
  filtered: true,
  flock: 'status 0',
  own: 'done',
  tcp: 'done',
  worker: 'done',
  wasm: 'done',
};

it.skipIf(landlock < 6 || process.arch !== 'x64')(
  'a guest process that was taken over executes, traces, signals and mounts nothing, opens no file of another guest, and works',
  async () => {
    expect(await probed(undefined)).toEqual({ ...REFUSED, ...GOES_ON });
  },
  60_000,
);

it.skipIf(landlock < 6 || process.arch !== 'x64' || !ROOT)(
  'and on a daemon without root, where all guests have one user, neither',
  async () => {
    expect(await probed(NOBODY)).toEqual({ ...REFUSED, ...GOES_ON });
  },
  60_000,
);
