/**
 * Starts a daemon with a guest whose process was taken over (sandbox-probe.ts), and returns what that process could do.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AskDaemon, askDaemon } from '../../scripts/lib/raw-daemon.js';
import { compiled, inRoot } from '../../scripts/lib/root.js';
import { initIdentity } from '../../src/transport/identity.js';
import { until } from '../migration/hosts.js';

const MAIN = inRoot('dist/cli/main.js');
const PROBE = compiled('test/control/sandbox-probe.ts').href;

export interface Probed {
  readonly found: Readonly<Record<string, unknown>>;
  /** The daemon's log. */
  log(): string;
  /** Whether the guest still exists. */
  lives(): Promise<boolean>;
  /** The daemon's directory, and the directory that contains it. */
  readonly dir: string;
  readonly root: string;
  readonly ask: AskDaemon;
  /** The process id of the guest's process. */
  pid(): Promise<number>;
  /** Ends the daemon and removes all files. */
  clean(): Promise<void>;
}

/** Starts a daemon as the user `uid`, or as the tests' own user. `evil`: what the process does after its report. */
export async function probed(uid: number | undefined, evil = ''): Promise<Probed> {
  const root = mkdtempSync(join(tmpdir(), 'stillpoint-sandbox-'));
  chmodSync(root, 0o755);
  const dir = join(root, 'host');
  const victim = join(dir, 'guests', '77');
  await initIdentity(dir);
  const config = join(root, 'host.json');
  writeFileSync(config, JSON.stringify({ runner: PROBE, guestProcesses: 200 }));
  // The guest's own disk, and files that are forbidden to it: another guest's disk, and a file of the daemon's user.
  for (const name of ['own.img', 'other.img', 'later.img', 'outside']) {
    writeFileSync(join(root, name), 'a secret', { mode: 0o600 });
    if (name !== 'outside') truncateSync(join(root, name), 65_536);
  }
  if (uid !== undefined) execFileSync('chown', ['-R', `${uid}:${uid}`, root]);
  const server = net.createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const log = join(root, 'log');
  const daemon: ChildProcess = spawn(
    process.execPath,
    [MAIN, 'host', '--name', 'A', '--dir', dir, '--config', config],
    {
      stdio: ['ignore', 'pipe', openSync(log, 'a')],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    },
  );
  const ask: AskDaemon = (method, params) => askDaemon(dir, method, params);
  const clean = async (): Promise<void> => {
    await ask('destroy', { guest: 'probe' }).catch(() => {});
    daemon.kill('SIGKILL');
    server.close();
    rmSync(root, { recursive: true, force: true });
  };
  try {
    await new Promise((done, fail) => {
      daemon.stdout!.once('data', done);
      daemon.once('exit', () => fail(new Error(existsSync(log) ? readFileSync(log, 'utf8') : 'it ended')));
    });
    // A file of another guest, owned by another user where each guest has its own user.
    mkdirSync(victim, { recursive: true });
    const secret = join(victim, 'owner.json');
    writeFileSync(secret, 'a secret');
    chmodSync(secret, 0o600);
    chmodSync(victim, 0o700);
    if (uid !== undefined) for (const path of [victim, secret]) chownSync(path, uid, uid);
    const told = {
      root,
      evil,
      other: secret,
      daemonPid: daemon.pid,
      daemonDir: dir,
      socket: (server.address() as net.AddressInfo).port,
    };
    const hex = Buffer.from(JSON.stringify(told)).toString('hex');
    const text = `name = "probe"\nimage = "${join(root, 'own.img')}"\nprobe = "${hex}"\n`;
    await ask('create', { config: text, file: 'probe.cfg', directory: root });
    const line = await until('the probe', async () => {
      const { latest } = await ask('console', { guest: 'probe' });
      return /PROBE (.*) END/.exec(Buffer.from(latest, 'base64').toString())?.[1];
    });
    return {
      found: JSON.parse(line),
      log: () => readFileSync(log, 'utf8'),
      lives: async () => (await ask('list', {})).length > 0,
      dir,
      root,
      ask,
      pid: async () => (await ask('domain', { guest: 'probe' })).pid,
      clean,
    };
  } catch (error) {
    await clean();
    throw error;
  }
}

const EPERM = -1;
const EAFNOSUPPORT = -97;
/** Every way out that docs/security.md names, and how the kernel refuses it. */
export const REFUSED = {
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
  session: EPERM,
  processGroup: EPERM,
  otherGuest: 'EACCES',
  otherGuestLater: 'EACCES',
  hostsKey: 'EACCES',
  controlKey: 'EACCES',
  control: 'refused',
  xenstore: 'refused',
  guests: 'EACCES',
  otherDisk: 'EACCES',
  outside: 'EACCES',
  makeOutside: 'EACCES',
  removeOutside: 'EACCES',
  symbolicLink: 'EACCES',
  pipe: 'refused',
  hardLink: 'refused',
  logOfItsOwn: 'EACCES',
  longFile: 'EFBIG',
};
/** What a guest process must still be able to do. */
export const GOES_ON = {
  noNewPrivileges: true,
  filtered: true,
  flock: 'status 0',
  own: 'done',
  ownDisk: 'done',
  tcp: 'done',
  worker: 'done',
  wasm: 'done',
};
