/** A daemon in this process, on the tests' own platform: it needs no root, no disk files and no network. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { type AskDaemon, askDaemon } from '../../scripts/lib/raw-daemon.js';
import { compiled, inRoot } from '../../scripts/lib/root.js';
import type { HostDaemon as Daemon } from '../../src/control/host-daemon.js';
import type { DomainRow } from '../../src/protocol/control.js';
import { initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';
import { FAKE_PLATFORM, type FakeStore } from '../support/fake-platform.js';
import { testPort } from '../support/ports.js';

/** Imports a module from dist/, because the programs that a daemon starts are beside its own modules. */
const built = <T>(module: string): Promise<T> => import(inRoot(`dist/${module}`));
const { openHostConfig } =
  await built<typeof import('../../src/control/host-config.js')>('control/host-config.js');
const { HostDaemon } =
  await built<typeof import('../../src/control/host-daemon.js')>('control/host-daemon.js');
const { systemWorld } =
  await built<typeof import('../../src/control/system-world.js')>('control/system-world.js');

/** The machine as it is, except that the daemon's user cannot give other users to guests' processes. */
const WITHOUT_ROOT = {
  ...systemWorld,
  processes: Object.create(systemWorld.processes, {
    haveOwnUsers: { value: false },
  }) as typeof systemWorld.processes,
};

export class FakeHost {
  readonly dir: string;
  daemon!: Daemon;
  port = 0;

  constructor(
    readonly root: string,
    readonly name: string,
    private readonly settings: object,
    private readonly firstPort = 17_525,
  ) {
    this.dir = join(root, name);
  }

  async open(): Promise<void> {
    await initIdentity(this.dir);
    const file = join(this.root, `${this.name}.json`);
    const runner = compiled('test/support/disk-guest.ts').href;
    writeFileSync(file, JSON.stringify({ platform: FAKE_PLATFORM, runner, ...this.settings }));
    this.daemon = new HostDaemon({
      ...(await openHostConfig(file, this.name)),
      dir: this.dir,
      listen: { host: '127.0.0.1', port: testPort(this.firstPort + this.name.charCodeAt(0) - 65) },
      plainLoopback: false,
      log: pino({ level: 'silent' }),
      world: WITHOUT_ROOT,
    });
    this.port = await this.daemon.start();
  }
  get store(): FakeStore {
    return this.daemon.platform.toolstackStore as FakeStore;
  }
  readonly ask: AskDaemon = (method, params) => askDaemon(this.dir, method, params);
  list(): Promise<readonly DomainRow[]> {
    return this.ask('list', {});
  }

  /** Ends all its guests, then the daemon. */
  async close(): Promise<void> {
    for (const { domid } of await this.list().catch(() => []))
      await this.ask('destroy', { guest: String(domid) }).catch(() => undefined);
    this.daemon?.close();
  }
}

/** Opens two hosts that trust one another to move guests. A may also be controlled by itself, as host A. */
export async function openBoth(a: FakeHost, b: FakeHost): Promise<void> {
  await a.open();
  await b.open();
  trust(a.dir, 'A', loadIdentity(a.dir)!.certificate, `127.0.0.1:${a.port}`, ['control']);
  trust(a.dir, 'B', loadIdentity(b.dir)!.certificate, `127.0.0.1:${b.port}`, ['move']);
  trust(b.dir, 'A', loadIdentity(a.dir)!.certificate, `127.0.0.1:${a.port}`, ['move']);
  for (const host of [a, b]) await host.ask('trustChanged', {});
}
