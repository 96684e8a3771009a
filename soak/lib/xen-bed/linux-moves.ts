// A guest moves between a plain Linux host, which is this machine, and a helper domain on the bed's Xen: into Xen, by
// `xl migrate` within it, and out again. An observer in the guest says whether it has seen any of it.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Appliance } from '../../../scripts/lib/appliance.js';
import { ask, cli, type DaemonHost, ramdiskWithPrograms, typed } from '../../../scripts/lib/daemons.js';
import type { Guests } from '../../../scripts/lib/guests.js';
import { smallKernelElf } from '../../../src/demo/small-kernel.js';
import { VERDICT, verdictIn } from '../../../src/demo/verdict.js';
import type { MoveStats } from '../../../src/protocol/moves.js';
import { initIdentity, trust } from '../../../src/transport/identity.js';
import type { SoakRow } from '../soaked.js';
import { helperDomain } from './helper-domain.js';
import type { XenBed } from './xen-bed.js';
import { XlGuest } from './xl-guest.js';

const NETWORK = '192.168.77';
/** What the emulator calls this machine. */
const MACHINE = `${NETWORK}.254`;
const HELPER = `${NETWORK}.20`;
const BOOT_S = 240;
const MOVE_S = 240;
const SAY_S = 120;

/**
 * What QEMU needs so that helper domains reach this machine's loopback, and are reached by it at `port` and the one after
 * it.
 */
export function networkOf(port: number): string[] {
  const forwards = [port, port + 1].map((p) => `hostfwd=tcp:127.0.0.1:${p}-${HELPER}:${p}`);
  const user = [
    'user',
    'id=linux',
    `net=${NETWORK}.0/24`,
    `host=${MACHINE}`,
    `dns=${NETWORK}.253`,
    ...forwards,
  ];
  return ['-netdev', user.join(','), '-device', 'virtio-net-pci,netdev=linux'];
}

/** A port of this machine's loopback that is free, as is the one after it. */
export async function freePorts(): Promise<number> {
  for (;;) {
    const one = createServer().listen(0, '127.0.0.1');
    await once(one, 'listening');
    const { port } = one.address() as AddressInfo;
    const other = createServer();
    const both = await new Promise<boolean>((resolve) => {
      other.once('error', () => resolve(false));
      other.listen(port + 1, '127.0.0.1', () => resolve(true));
    });
    other.close();
    one.close();
    if (both) return port;
  }
}

interface LinuxMovesOptions {
  /** As `networkOf` was given. */
  readonly port: number;
  readonly name: string;
  /** xl.cfg of the guest, with uuid, without its name and a network; its files are named as in `files`. */
  readonly guest: string;
  readonly files: Readonly<Record<string, Uint8Array | string>>;
  readonly say: (what: string) => void;
}

interface LinuxMoves {
  /** From Linux into Xen, as the daemon tells it. */
  readonly into: MoveStats;
  /** From Xen to Linux, as the helper tells it, ms. */
  readonly out: { readonly totalMs: number; readonly downtimeMs: number };
  /** The domain ids of the helper: `xl migrate` changes it. */
  readonly domids: readonly number[];
  readonly verdict: RegExpExecArray;
  /** When the verdict was asked for and when it was there, ms since 1970. */
  readonly said: readonly [number, number];
}

class LinuxHost implements Pick<DaemonHost, 'dir'> {
  readonly dir: string;
  private constructor(
    private readonly root: string,
    readonly child: ChildProcess,
    readonly port: number,
  ) {
    this.dir = join(root, 'linux');
  }

  /** `more`: files that guests' configurations name. */
  static async start(root: string, more: readonly string[]): Promise<LinuxHost> {
    const folders = Object.fromEntries([root, ...more].map((one) => [one, one]));
    writeFileSync(join(root, 'linux.json'), JSON.stringify({ images: folders, kernels: folders }));
    const args = [
      'host',
      '--name',
      'linux',
      '--listen',
      '127.0.0.1:0',
      '--dir',
      join(root, 'linux'),
      '--json',
    ];
    const child = spawn(process.execPath, [cli, ...args, '--config', join(root, 'linux.json')], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const line = await new Promise<string>((done) => child.stdout.once('data', (d) => done(String(d))));
    child.stdout.resume();
    return new LinuxHost(root, child, (JSON.parse(line) as { port: number }).port);
  }

  async stop(): Promise<void> {
    for (const { domid } of await ask(this, 'list', {}).catch(() => []))
      await ask(this, 'destroy', { guest: String(domid) }).catch(() => undefined);
    this.child.kill();
    rmSync(this.root, { recursive: true, force: true });
  }
}

const OBSERVES = /OBS (START|n=)/;
/** Wall clocks may be apart by so much, ms. */
const WALL_CLOCK_MS = 1000;

async function linuxMoves(
  bed: XenBed,
  appliance: Appliance,
  options: LinuxMovesOptions,
): Promise<LinuxMoves> {
  const { name, port, guest, files, say } = options;
  const domain = new XlGuest(bed, name);
  const root = mkdtempSync(join(tmpdir(), 'linux-moves-'));
  for (const dir of ['linux', 'xen']) mkdirSync(join(root, dir));
  const [own, theirs] = [await initIdentity(join(root, 'linux')), await initIdentity(join(root, 'xen'))];
  trust(join(root, 'linux'), 'xen', theirs.certificate, `127.0.0.1:${port}`, ['move']);
  const linux = await LinuxHost.start(
    root,
    Object.values(files)
      .filter((from) => typeof from === 'string')
      .map((file) => dirname(file)),
  );
  try {
    trust(join(root, 'xen'), 'linux', own.certificate, `${MACHINE}:${linux.port}`, ['move']);
    const { config, initrd } = await helperDomain(appliance, {
      name,
      guest,
      guestFiles: files,
      kernelWords: 'mitigations=off stillpoint.wait',
      moves: { address: HELPER, prefix: 24, port, vif: 'bridge=xenbr0', identity: join(root, 'xen') },
    });
    await bed.must('ip link set eth0 master xenbr0 && ip link set eth0 up', 30);
    await bed.put(initrd, `/s/${name}.initrd`);
    await bed.put(Buffer.from(config), `/s/${name}.cfg`);
    await domain.create();
    const node = (path: string): string => `/local/domain/$(xl domid ${name})/data/stillpoint/${path}`;
    const until = (path: string, words: string, seconds: number): Promise<string> =>
      bed.must(
        `until xenstore-read -R ${node(path)} 2>/dev/null | grep '${words}'; do sleep 0.5; done`,
        seconds,
      );
    await until('state', '"waiting"', BOOT_S);
    say('the helper domain waits');

    for (const [file, from] of Object.entries(files))
      if (typeof from !== 'string') writeFileSync(join(root, file), from);
    const config1 = `name = "${name}"\n${guest}`.replace(/^(kernel|ramdisk) = "(.*)"$/gm, (_, what, file) => {
      const from = files[file as string];
      return `${what} = "${typeof from === 'string' ? from : join(root, file as string)}"`;
    });
    await ask(linux, 'create', { config: config1, file: `${name}.cfg`, directory: root });
    await typed(linux, name, '', OBSERVES, SAY_S);
    say('the guest observes, on Linux');
    const into = await ask(linux, 'migrate', { guest: name, host: 'xen', timeoutS: MOVE_S });
    await until('state', '"running"', MOVE_S);
    const domids = [await domain.domid()];
    say(
      `it is in Xen: ${Math.round(into.totalMs)} ms, of which it stood still for ${Math.round(into.downtimeMs)}`,
    );
    await domain.migrate();
    domids.push(await domain.domid());
    await until('state', '"moves":1', MOVE_S);
    say(`xl migrate: the domain is ${domids[1]} now`);
    await bed.must(`xenstore-write ${node('migrate')} linux`, 30);
    const out = JSON.parse(
      await until('move', '"moved"\\|"stays"\\|"unsettled"', MOVE_S),
    ) as LinuxMoves['out'];
    say(
      `it is on Linux again: ${Math.round(out.totalMs)} ms, of which it stood still for ${Math.round(out.downtimeMs)}`,
    );
    await bed.must(`while xl domid ${name} 2>/dev/null; do sleep 0.2; done`, MOVE_S);
    const asked = Date.now();
    const text = await typed(linux, name, 'v\n', VERDICT, SAY_S);
    return { into, out, domids, verdict: VERDICT.exec(text)!, said: [asked, Date.now()] };
  } finally {
    await linux.stop();
  }
}

const wild = (lines: readonly string[]): string => [`uuid = "${randomUUID()}"`, ...lines, ''].join('\n');

/** `bed` has the network of `networkOf(port)`, and the appliance's kernel in /s. */
export async function proveLinuxMoves(
  bed: XenBed,
  appliance: Appliance,
  guests: Guests | undefined,
  port: number,
): Promise<SoakRow[]> {
  const small = {
    about: 'the small kernel',
    name: 'mover',
    guest: wild(['kernel = "small"', 'memory = 16', 'extra = "interval_ms=20"']),
    files: { small: smallKernelElf() },
  };
  const words = 'console=hvc0 rdinit=/init initcall_blacklist=xen_setup_shutdown_event';
  const debian = guests && {
    about: "Debian's Linux, wild,",
    name: 'wildmover',
    guest: wild([
      'kernel = "vmlinux"',
      'ramdisk = "initramfs"',
      'memory = 128',
      `extra = '${words} stillpoint.run="observer 100 0"'`,
    ]),
    files: { vmlinux: guests.vmlinux, initramfs: ramdiskWithPrograms(guests.initramfs) },
  };
  const rows: SoakRow[] = [];
  for (const { about, name, guest, files } of debian === undefined ? [small] : [small, debian]) {
    const say = (what: string): void => console.log(`${about}: ${what}`);
    const { verdict, said } = await linuxMoves(bed, appliance, { name, port, guest, files, say });
    say(verdict[0]);
    const { realNs, backwards, differences, right } = verdictIn(verdict);
    const [from, to] = said;
    const noted = (property: string, holds: boolean): void =>
      void rows.push({
        property: `${about} from Linux into Xen and back ${property}`,
        cases: 1,
        failures: holds ? 0 : 1,
      });
    noted('sees no difference, and clocks that go forward', differences === 0 && backwards === 0);
    noted('computes right', right);
    noted('knows the time', realNs / 1e6 > from - WALL_CLOCK_MS && realNs / 1e6 < to + WALL_CLOCK_MS);
  }
  return rows;
}
