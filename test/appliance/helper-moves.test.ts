import { type ChildProcess, spawn } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AskDaemon, askDaemon } from '../../scripts/lib/raw-daemon.js';
import { inRoot } from '../../scripts/lib/root.js';
import { type Left, leaveXen } from '../../src/appliance/leaving.js';
import type { PublishedPoint, PublishedState } from '../../src/appliance/published.js';
import { wrap } from '../../src/appliance/wrap.js';
import { madeMac } from '../../src/appliance/wrap-files.js';
import type { HostDaemon } from '../../src/control/host-daemon.js';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { DEFAULT_MOVE } from '../../src/protocol/moves.js';
import { TO_DESTINATION } from '../../src/protocol/peer.js';
import { answerSigns } from '../../src/protocol/session.js';
import { say } from '../../src/protocol/table.js';
import { initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';
import { connectPeer } from '../../src/transport/peer.js';
import { FakeXen, PLACE_A, PLACE_B, type Place, UUID } from '../support/fake-xen.js';
import { programKernel } from '../support/program-kernel.js';

/** Imports a module from dist/, because the programs that a daemon starts are beside its own modules. */
const built = <T>(module: string): Promise<T> => import(inRoot(`dist/${module}`));
const { openHostConfig } =
  await built<typeof import('../../src/control/host-config.js')>('control/host-config.js');
const { HostDaemon: Daemon } =
  await built<typeof import('../../src/control/host-daemon.js')>('control/host-daemon.js');
const { systemWorld } =
  await built<typeof import('../../src/control/system-world.js')>('control/system-world.js');

const DISK = { kind: 'vbd', devid: 51712 } as const;
const NETWORK = { kind: 'vif', devid: 0, mac: '00:16:3e:01:02:03' } as const;
const WAIT = { timeout: 25_000, interval: 20 };

/** The machine as it is, except that the daemon's user cannot give other users to guests' processes. */
const WITHOUT_ROOT = {
  ...systemWorld,
  processes: Object.create(systemWorld.processes, {
    haveOwnUsers: { value: false },
  }) as typeof systemWorld.processes,
};

let directory: string;
let linux: HostDaemon;
let linuxAddress: string;
const at = (name: string): string => join(directory, name);

/** A helper domain on a Xen of its own, made by `wrap --listen`, that waits for its guest. */
class Helper {
  output = '';
  messages = '';
  readonly status: Promise<number | null>;
  readonly child: ChildProcess;

  private constructor(
    /** Its files are below this one. */
    readonly name: string,
    readonly xen: FakeXen,
  ) {
    this.child = spawn(process.execPath, [inRoot('dist/appliance/main.js'), at(`${name}/places.json`)]);
    this.child.stdout!.on('data', (bytes: Buffer) => (this.output += bytes.toString('latin1')));
    this.child.stderr!.on('data', (bytes: Buffer) => (this.messages += bytes.toString('latin1')));
    this.status = new Promise((resolve) => this.child.once('exit', resolve));
  }

  static async start(name: string, place: Place): Promise<Helper> {
    const own = (file: string): string => at(`${name}/${file}`);
    for (const dir of ['xen', 'guest', 'move']) mkdirSync(own(dir), { recursive: true });
    const xen = await FakeXen.start(own('xen'), [DISK, NETWORK], place);
    mkdirSync(own(`xen/sys/bus/xen/devices/vbd-${DISK.devid}/block/xvda`), { recursive: true });
    // One disk, which all hosts reach.
    linkSync(at('files/disk.img'), own('xen/dev/xvda'));
    writeFileSync(own('xen/proc/cmdline'), 'console=hvc0 loglevel=1 stillpoint.wait\n');
    await initIdentity(own('move'));
    writeFileSync(own('move/settings.json'), JSON.stringify({ address: '127.0.0.1', port: 0 }));
    const wrapped = wrap(Buffer.from(config()), {
      file: 'inner.cfg',
      kernelPath: '/vmlinux',
      ramdiskPath: '/initrd',
      makeUuid: () => UUID,
      makeMac: madeMac,
      moves: { address: '10.0.0.7', prefix: 24, port: 7777, vif: 'bridge=own', absolute: (file) => file },
    });
    writeFileSync(own('guest/guest.cfg'), wrapped.guestConfig);
    const places = {
      guest: own('guest/guest.cfg'),
      reason: own('run/reason'),
      host: xen.places,
      move: own('move/settings.json'),
      networks: { outer: 'none' },
    };
    writeFileSync(own('places.json'), JSON.stringify(places));
    return new Helper(name, xen);
  }

  /** Where it listens, the `nth` time that it says so. */
  async listens(nth = 1): Promise<string> {
    const said = (): string[] =>
      [...this.messages.matchAll(/listens for other hosts on (\S+)\n/g)].map((m) => m[1]);
    await vi.waitFor(() => expect(said().length, this.messages).toBe(nth), WAIT);
    return said()[nth - 1];
  }

  published<T>(name: string): T {
    return JSON.parse(this.xen.host.read(`data/stillpoint/${name}`) || '{}') as T;
  }
  state(): PublishedState {
    return this.published('state');
  }
  async is(state: string): Promise<void> {
    const { domid } = this.xen.host.place;
    await vi.waitFor(() => expect(this.state()).toMatchObject({ state, domid, uuid: UUID }), WAIT);
  }
  points(): PublishedPoint[] {
    const home = `/local/domain/${this.xen.host.place.domid}/data/stillpoint/points`;
    return this.xen.host.dom0.exists(home)
      ? this.xen.host.dom0.list(home).map((name) => this.published<PublishedPoint>(`points/${name}`))
      : [];
  }

  /** As `stillpoint migrate --xen` on its dom0. */
  sends(to: string): Promise<Left> {
    return leaveXen('helper', { to, options: DEFAULT_MOVE }, { socket: this.xen.dom0Socket });
  }
  /** The guest has left: the domain ends as if it had powered off. */
  async hasSent(to: string): Promise<void> {
    expect(await this.status, this.messages).toBe(0);
    expect(readFileSync(at(`${this.name}/run/reason`), 'latin1')).toBe('0\n');
    expect(this.state()).toMatchObject({ state: 'moved', to, reason: 0 });
    expect(this.published('move')).toMatchObject({ state: 'moved', to });
  }
  async verdict(): Promise<void> {
    this.child.stdin!.write('v');
    await vi.waitFor(() => expect(this.output).toMatch(/OBS VERDICT .*back=0 diff=0/), WAIT);
  }

  async stop(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.status;
    await this.xen.stop();
  }
}

let helper: Helper;
/** All of a test. */
let helpers: Helper[];
async function startHelper(name: string, place: Place): Promise<Helper> {
  const one = await Helper.start(name, place);
  helpers.push(one);
  return one;
}

const ask: AskDaemon = (method, params) => askDaemon(at('linux'), method, params);
const certificate = (dir: string): string => loadIdentity(dir)!.certificate;

/** The guest's configuration as one host has it. */
const config = (): string =>
  `name = "inner"\nuuid = "${UUID}"\nmemory = 8\nkernel = "${at('files/kernel')}"\nextra = "interval_ms=10"\n` +
  `disk = ["${at('files/disk.img')},raw,xvda,w"]\nvif = ["mac=${NETWORK.mac},bridge=outer"]\n`;

/** Host `who`, whose files are below that name, trusts another at its address. */
const trusts = (who: string, name: string, address: string): void =>
  void trust(at(who), name, certificate(at(name === 'linux' ? 'linux' : `${name}/move`)), address, ['move']);
async function trustHelper(address: string): Promise<void> {
  trusts('linux', 'helper', address);
  await ask('trustChanged', {});
}

async function create(kernel: Uint8Array): Promise<void> {
  for (const name of ['files/kernel', 'helper/guest/kernel']) writeFileSync(at(name), kernel);
  const text = config();
  await ask('create', { config: text, file: 'inner.cfg', directory, paused: false });
}

/** What a client that watches the console of the guest on the Linux host has seen. */
async function seen(pattern: RegExp): Promise<void> {
  await vi.waitFor(
    async () =>
      expect(
        Buffer.from((await ask('console', { guest: 'inner' })).latest, 'base64').toString('latin1'),
      ).toMatch(pattern),
    WAIT,
  );
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sp-move-'));
  for (const name of ['files', 'linux']) mkdirSync(at(name));
  writeFileSync(at('files/disk.img'), Buffer.alloc(1 << 20));
  await initIdentity(at('linux'));

  const folders = { [at('files')]: at('files') };
  const settings = { networks: { outer: 'none' }, images: folders, kernels: folders, firstDomid: 40 };
  writeFileSync(at('linux.json'), JSON.stringify(settings));
  linux = new Daemon({
    ...(await openHostConfig(at('linux.json'), 'linux')),
    dir: at('linux'),
    listen: { host: '127.0.0.1', port: 0 },
    plainLoopback: false,
    log: pino({ level: 'silent' }),
    world: WITHOUT_ROOT,
  });
  const port = await linux.start();
  linuxAddress = `127.0.0.1:${port}`;
  helpers = [];
  helper = await startHelper('helper', PLACE_A);
  trusts('helper/move', 'linux', linuxAddress);
});
afterEach(async () => {
  for (const one of helpers) await one.stop();
  for (const { domid } of await ask('list', {}).catch(() => []))
    await ask('destroy', { guest: String(domid) }).catch(() => undefined);
  linux.close();
  rmSync(directory, { recursive: true, force: true });
});

describe('a guest of a plain Linux host and a helper domain', () => {
  it('enters Xen, moves to another Xen and leaves it, and sees no difference', async () => {
    await trustHelper(await helper.listens());
    await helper.is('waiting');
    await create(smallKernelElf());
    await seen(/OBS n=/);
    const before = await ask('points', { guest: 'inner' });
    const stats = await ask('migrate', { guest: 'inner', host: 'helper' });
    expect(stats).toMatchObject({ destination: 'helper', domid: 5 });
    expect(await ask('list', {})).toEqual([]);

    await helper.is('running');
    await vi.waitFor(() => expect(helper.points().length).toBeGreaterThan(35), WAIT);
    const [there, here] = [before, helper.points()].map((rows) => rows.find((p) => p.name === 'domain id'));
    expect(here?.inner).toBe(there?.inner);
    expect([there?.outer, here?.outer]).toEqual(['40', ['5']]);
    await helper.verdict();

    // No host of this name is trusted: the guest stays.
    await expect(helper.sends('elsewhere')).rejects.toThrow('no host elsewhere is trusted here');
    expect(helper.published('move')).toMatchObject({ state: 'stays', to: 'elsewhere' });

    const other = await startHelper('other', PLACE_B);
    trusts('other/move', 'helper', await helper.listens());
    trusts('other/move', 'linux', linuxAddress);
    trusts('helper/move', 'other', await other.listens());
    expect((await helper.sends('other')).downtimeMs).toBeGreaterThan(0);
    await helper.hasSent('other');
    await other.is('running');
    await other.verdict();

    trusts('linux', 'other', await other.listens());
    await ask('trustChanged', {});
    await other.sends('linux');
    await other.hasSent('linux');
    expect(await ask('list', {})).toMatchObject([{ name: 'inner', uuid: UUID, domid: 41 }]);
    await ask('type', { guest: 'inner', data: Buffer.from('v').toString('base64') });
    await seen(/OBS VERDICT .*back=0 diff=0/);
  });

  it('stays or starts anew where a helper cannot take it in, and reboots in the helper that it came to', async () => {
    const first = await helper.listens();
    await trustHelper(first);
    // It prints a line, and reboots when a key is pressed.
    const kernel = programKernel(`
      lea rsi, [up]
      call print
    wait:
      mov edi, 0
      xor esi, esi
      mov eax, 29
      syscall
      mov eax, [r15+0x2000+3072]
      cmp eax, [r15+0x2000+3076]
      je wait
      jmp reboot
    up:
      db ${[...Buffer.from('guest is up\\n\\0')].join(', ')}
    `);
    // What it cannot know it does not answer: the guest may have run in a domain that was here before.
    const heard: unknown[] = [];
    const [host, port] = first.split(':');
    const address = { name: 'helper', host, port: Number(port) };
    const rpc = await connectPeer(address, loadIdentity(at('linux')), linux.trusted.all(), {
      request: answerSigns,
      notice: (_, params) => heard.push(params),
    });
    const ids = ['1', '2'].map((digit) => UUID.replace(/./, digit));
    say(rpc, TO_DESTINATION, 'move', { handover: ids[0], message: 'ask' });
    say(rpc, TO_DESTINATION, 'move', { handover: ids[1], message: 'forget' });
    await vi.waitFor(() => expect(heard).toMatchObject([{ handover: ids[1], message: 'forgotten' }]), WAIT);
    expect(helper.messages).toContain('linux asks about a move that this domain knows nothing of');
    rpc.close();
    const migrate = () => ask('migrate', { guest: 'inner', host: 'helper' });
    await create(kernel);
    await seen(/guest is up/);
    await ask('rename', { guest: 'inner', name: 'other' });
    await expect(ask('migrate', { guest: 'other', host: 'helper' })).rejects.toThrow(
      'the announced guest has the name other; this helper domain is for inner',
    );
    await ask('rename', { guest: 'other', name: 'inner' });
    await expect(ask('migrate', { guest: 'inner', host: 'helper', copyStorage: true })).rejects.toThrow(
      'given by its dom0',
    );
    // The move is given up while the guest arrives: it continues at its source, and the helper waits again.
    const slow = ask('migrate', { guest: 'inner', host: 'helper', bandwidthMBs: 0.01 });
    await vi.waitFor(() => expect(helper.messages).toContain('the guest comes from linux'), WAIT);
    await ask('cancelMove', { guest: 'inner' });
    await expect(slow).rejects.toThrow('the guest goes on here');
    await trustHelper(await helper.listens(2));
    await migrate();
    await helper.is('running');
    expect(helper.output).toBe('');
    helper.child.stdin!.write('r');
    await vi.waitFor(() => expect(helper.output).toContain('guest is up'), WAIT);
    await helper.is('running');
    expect(helper.child.exitCode, helper.messages).toBe(null);
  });
});
