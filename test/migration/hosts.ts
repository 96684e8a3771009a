/** Two unlike hosts on this machine, with a proxy between them that can cut every connection of a move. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askDaemon, rawDaemon } from '../../scripts/lib/raw-daemon.js';
import { compiled, inRoot } from '../../scripts/lib/root.js';
import type { Control, DomainRow } from '../../src/protocol/control.js';
import type { AnswerOf, AskedOf } from '../../src/protocol/table.js';
import { initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';

const MAIN = inRoot('dist/cli/main.js');
const CACHE = inRoot('.cache');
const FAKE = compiled('test/migration/fake-guest.ts').href;

/** Control sequences that move a terminal's cursor, and carriage returns. */
const CURSOR = /\x1b\[[0-9;]*[A-Za-z]|\r/g;

/** Polls until `what` returns a value other than undefined; fails with `name` after `seconds`. */
export async function until<T>(
  name: string,
  what: () => Promise<T | undefined> | T | undefined,
  seconds = 30,
): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await what();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${name}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** A listener on `host:port` that forwards everything to 127.0.0.1:port until it is told to cut the connections. */
export class CutProxy {
  private readonly sockets = new Set<net.Socket>();
  private readonly servers: net.Server[] = [];
  /** Cuts the connection through `dataPort` once, after so many bytes. */
  cutDataAfter: number | undefined;

  async open(host: string, port: number, data: boolean): Promise<void> {
    const server = net.createServer((from) => {
      const to = net.connect(port, '127.0.0.1');
      let passed = 0;
      for (const [one, other] of [
        [from, to],
        [to, from],
      ] as const) {
        this.sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          this.sockets.delete(one);
          // What was sent before may still be on its way.
          if (one.readableEnded) other.end();
          else other.destroy();
        });
        one.on('data', (chunk) => {
          passed += chunk.length;
          if (data && this.cutDataAfter !== undefined && passed > this.cutDataAfter) {
            this.cutDataAfter = undefined;
            from.destroy();
            to.destroy();
          } else if (!other.write(chunk)) {
            one.pause();
            other.once('drain', () => one.resume());
          }
        });
        one.on('end', () => other.end());
      }
    });
    await new Promise<void>((done, fail) => {
      server.once('error', fail);
      server.listen({ host, port }, done);
    });
    this.servers.push(server);
  }
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }
  close(): void {
    this.cut();
    for (const server of this.servers) server.close();
  }
}

/** The daemons of this process's tests: none outlives the process, however a test ends. */
const daemons = new Set<ChildProcess>();
process.once('exit', () => {
  for (const daemon of daemons) daemon.kill('SIGKILL');
});

export class TestHost {
  process: ChildProcess | undefined;
  constructor(
    readonly name: string,
    readonly dir: string,
    readonly port: number,
    readonly config: string,
    /** Additional arguments of the daemon. */
    private readonly otherArguments: readonly string[] = [],
  ) {}

  /** `uid`: the daemon runs as that user (and must own its directory). `log`: where its log goes. */
  async start(uid?: number, log = join(this.dir, 'daemon.log')): Promise<void> {
    const args = [MAIN, 'host', '--name', this.name, '--dir', this.dir, '--config', this.config];
    args.push('--listen', `127.0.0.1:${this.port}`, ...this.otherArguments);
    const child = spawn('/bin/sh', ['-c', `exec "$0" "$@" 2>>${log}`, process.execPath, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    this.process = child;
    daemons.add(child);
    child.once('exit', () => daemons.delete(child));
    await new Promise<void>((done, fail) => {
      child.stdout!.once('data', () => done());
      const said = (): string => readFileSync(join(this.dir, 'daemon.log'), 'utf8');
      child.once('exit', () => fail(new Error(`host ${this.name} ended: ${said()}`)));
    });
  }
  /** Kills the daemon with SIGKILL. */
  async kill(): Promise<void> {
    const child = this.process!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await gone;
  }
  ask<M extends keyof Control & string>(
    method: M,
    params: AskedOf<Control, M>,
  ): Promise<AnswerOf<Control, M>> {
    return askDaemon(this.dir, method, params);
  }
  /**
   * Types `keys` at a guest's console, and waits for `pattern` in what it prints. Returns everything that it printed.
   */
  async consoleOf(guest: string, keys: string, pattern: RegExp, seconds = 100): Promise<string> {
    let text = '';
    const rpc = await rawDaemon(this.dir, (method, params) => {
      if (method !== 'console') return;
      text += Buffer.from(String(params.data), 'base64').toString('latin1').replaceAll(CURSOR, '');
    });
    try {
      const { latest } = await rpc.request<{ latest: string }>('console', { guest });
      text = Buffer.from(latest, 'base64').toString('latin1').replaceAll(CURSOR, '') + text;
      if (keys !== '') await rpc.request('type', { guest, data: Buffer.from(keys).toString('base64') });
      await until(
        `${pattern} on the console of ${guest}`,
        () => pattern.test(text) || undefined,
        seconds,
      ).catch((error: Error) => {
        throw new Error(`${error.message}; it printed ${JSON.stringify(text.slice(-1000))}`);
      });
      return text;
    } finally {
      rpc.close();
    }
  }
  /** The daemon's whole log. */
  log(): string {
    return readFileSync(join(this.dir, 'daemon.log'), 'utf8');
  }
  list(): Promise<readonly DomainRow[]> {
    return this.ask('list', {});
  }
  /** The process ids of guests, from the daemon's files: also while the processes do not answer. */
  pids(): number[] {
    return this.files('state')
      .filter((name) => name.endsWith('.json'))
      .map((name) => JSON.parse(readFileSync(join(this.dir, 'state', name), 'utf8')).process?.pid)
      .filter((pid) => pid !== undefined);
  }
  files(folder: 'handovers' | 'guests' | 'state'): string[] {
    return readdirSync(join(this.dir, folder));
  }
}

export class TwoHosts {
  readonly proxy = new CutProxy();
  private guests = 0;
  private constructor(
    /** The directory that contains everything of these hosts. */
    readonly root: string,
    readonly a: TestHost,
    readonly b: TestHost,
  ) {}

  /** `both`: settings for both hosts' configurations; `own`: settings for one of them. */
  static async open(
    firstPort: number,
    both: object = {},
    own: (root: string, name: string) => object = () => ({}),
  ): Promise<TwoHosts> {
    const root = mkdtempSync(join(tmpdir(), 'stillpoint-move-'));
    chmodSync(root, 0o711);
    for (const name of ['disk', 'gates']) {
      mkdirSync(join(root, name));
      chmodSync(join(root, name), 0o777);
    }
    const host = async (name: string, port: number, others: object): Promise<TestHost> => {
      const dir = join(root, name);
      const config = join(root, `${name}.json`);
      // Migrating guests have their files in the tests' own directory, and their kernels where they were downloaded.
      const folders = { images: { [root]: root }, kernels: { [root]: root, [CACHE]: CACHE } };
      const usual = { runner: FAKE, guestFolders: [root], ...folders };
      writeFileSync(config, JSON.stringify({ ...usual, ...both, ...own(root, name), ...others }));
      await initIdentity(dir);
      return new TestHost(name, dir, port, config);
    };
    const a = await host('A', firstPort, {
      firstDomid: 5,
      xenVersion: '4.14.1',
      dataPorts: `${firstPort + 2}-${firstPort + 5}`,
    });
    const b = await host('B', firstPort + 1, {
      firstDomid: 400,
      uptimeS: -1000,
      dataPorts: `${firstPort + 6}-${firstPort + 9}`,
    });
    trust(a.dir, 'B', loadIdentity(b.dir)!.certificate, `127.0.0.2:${b.port}`, ['move']);
    trust(b.dir, 'A', loadIdentity(a.dir)!.certificate, `127.0.0.2:${a.port}`, ['move']);
    const hosts = new TwoHosts(root, a, b);
    await a.start();
    await b.start();
    for (let port = firstPort; port < firstPort + 10; port++) {
      await hosts.proxy.open('127.0.0.2', port, port >= firstPort + 2);
    }
    return hosts;
  }

  /** Creates a guest on A; `configLines` are additional lines of its configuration. */
  async guest(configLines = ''): Promise<DomainRow> {
    const n = ++this.guests;
    rmSync(join(this.root, 'gates'), { recursive: true, force: true });
    mkdirSync(join(this.root, 'gates'));
    chmodSync(join(this.root, 'gates'), 0o777);
    const config = `name = "g${n}"\ndisk = "${join(this.root, 'disk', `d${n}`)}"\ngates = "${join(this.root, 'gates')}"\n${configLines}\n`;
    return this.a.ask('create', { config, file: 'guest.cfg', directory: this.root });
  }

  gate(step: string): void {
    writeFileSync(join(this.root, 'gates', step), '');
  }
  reached(step: string): Promise<unknown> {
    return until(`step ${step}`, () => existsSync(join(this.root, 'gates', `${step}.reached`)) || undefined);
  }
  openGate(step: string): void {
    rmSync(join(this.root, 'gates', step), { force: true });
  }

  /** Waits until everything is settled. Returns the host of the one live guest. Fails if there is none, or two. */
  async settled(name: string): Promise<{ on: string; row: DomainRow }> {
    let seen = '';
    return until(`one live guest ${name}, and nothing pending`, async () => {
      const pending = [...this.a.files('handovers'), ...this.b.files('handovers')];
      const rows = [
        ...(await this.a.list()).map((row) => ({ on: 'A', row })),
        ...(await this.b.list()).map((row) => ({ on: 'B', row })),
      ];
      seen = JSON.stringify({ pending, rows });
      if (pending.length > 0) return undefined;
      if (rows.length !== 1 || rows[0].row.moving || !/^(r-|-b)----$/.test(rows[0].row.state))
        return undefined;
      if (rows[0].row.name !== name) return undefined;
      return rows[0];
    }).catch((error: Error) => {
      throw new Error(`${error.message}; there is ${seen}`);
    });
  }

  /** Ends all guests, whatever a test left. */
  async clear(): Promise<void> {
    for (const host of [this.a, this.b]) {
      for (const row of await host.list().catch(() => [])) {
        await host.ask('destroy', { guest: String(row.domid) }).catch(() => {});
      }
    }
    for (const pid of this.processes()) process.kill(Number(pid), 'SIGKILL');
    rmSync(join(this.root, 'disk'), { recursive: true, force: true });
    mkdirSync(join(this.root, 'disk'));
    chmodSync(join(this.root, 'disk'), 0o777);
  }

  /** The processes of guests that are alive now, found by their working directory. */
  processes(): string[] {
    const found: string[] = [];
    for (const pid of readdirSync('/proc').filter((p) => /^\d+$/.test(p))) {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        if (readlinkSync(`/proc/${pid}/cwd`).startsWith(this.root) && !/\) Z /.test(stat)) found.push(pid);
      } catch {
        // The process ended meanwhile.
      }
    }
    return found;
  }

  /** Two live guests, or a guest that was resumed while it ran, would have written into this file. */
  violations(): string[] {
    return readdirSync(join(this.root, 'disk'))
      .filter((name) => name.endsWith('.violations'))
      .flatMap((name) =>
        readFileSync(join(this.root, 'disk', name), 'utf8')
          .trim()
          .split('\n'),
      );
  }

  async close(): Promise<void> {
    try {
      await this.clear();
    } finally {
      for (const host of [this.a, this.b]) await host.kill();
      this.proxy.close();
      rmSync(this.root, { recursive: true, force: true });
    }
  }
}
