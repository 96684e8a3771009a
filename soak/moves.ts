// npm run soak -- moves [MOVES [MINUTES]]: one busy Debian guest, which writes memory and a disk and downloads on one
// connection, moves MOVES times (1000; as many as fit into MINUTES, 20) back and forth between two hosts. Every 100
// moves it checks memory, descriptors, sockets, xenstore nodes and files of each host, and what the guest's process
// has: nothing may grow.
import { type ChildProcess, spawnSync } from 'node:child_process';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ask,
  cli,
  type DaemonHost,
  ramdiskWithPrograms,
  startDaemon,
  typed,
} from '../scripts/lib/daemons.js';
import { type DemoNetwork, startNetwork } from '../scripts/lib/demo-net.js';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { endProcessesBelow } from '../scripts/lib/processes.js';
import { XenstoreClient } from '../src/xenstore/client.js';
import { soaked } from './lib/soaked.js';

const MOVES = Number(process.argv[2] ?? 1000);
const MINUTES = Number(process.argv[3] ?? 20);
/** The number of moves between two checks. */
const EVERY = Math.min(100, Math.max(2, Math.floor(MOVES / 4)));
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-leaks-'));
spawnSync('chmod', ['755', dir]);
const children: ChildProcess[] = [];
let network: DemoNetwork | undefined;
const clean = (): void => {
  for (const host of ['A', 'B'])
    spawnSync(process.execPath, [cli, 'destroy', '--dir', join(dir, host), 'leaks'], { stdio: 'ignore' });
  for (const child of children) child.kill();
  endProcessesBelow(dir);
  network?.stop();
  rmSync(dir, { recursive: true, force: true });
};
process.on('exit', clean);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

async function host(name: string, config: object): Promise<DaemonHost> {
  const started = await startDaemon(dir, name, config);
  children.push(started.child);
  return started;
}

/** The number of descriptors of a process and of sockets among them, and its memory. */
function process_(pid: number | undefined): { descriptors: number; sockets: number; rssMb: number } {
  const fds = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return '';
    }
  });
  const rss = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return {
    descriptors: fds.length,
    sockets: fds.filter((to) => to.startsWith('socket:')).length,
    rssMb: Math.round(Number(rss) / 1024),
  };
}

async function nodes(at: DaemonHost): Promise<number> {
  const client = await XenstoreClient.connect({ path: join(at.dir, 'xenstore.sock') });
  const below = async (path: string): Promise<number> => {
    let count = 1;
    for (const name of await client.list(path))
      count += await below(path === '/' ? `/${name}` : `${path}/${name}`);
    return count;
  };
  const count = await below('/');
  client.close();
  return count;
}

const files = (at: DaemonHost): number =>
  ['handovers', 'guests', 'state'].reduce((sum, folder) => sum + readdirSync(join(at.dir, folder)).length, 0);

/** The present figures by name; the guest is at `at`. */
async function look(at: DaemonHost, other: DaemonHost): Promise<Readonly<Record<string, number>>> {
  // The records of the last move are removed shortly after it.
  for (let i = 0; i < 200 && files(other) > 0; i++) await new Promise((done) => setTimeout(done, 50));
  const found: Record<string, number> = {};
  for (const h of [at, other].sort((x, y) => (x.name < y.name ? -1 : 1))) {
    const { descriptors, sockets, rssMb } = process_(h.child.pid);
    Object.assign(found, {
      [`${h.name} descriptors`]: descriptors,
      [`${h.name} sockets`]: sockets,
      [`${h.name} MB`]: rssMb,
      [`${h.name} nodes`]: await nodes(h),
      [`${h.name} files`]: files(h),
    });
  }
  const rows = await ask(at, 'list', {});
  const guest = process_(rows.find((row) => row.name === 'leaks')?.pid);
  const points = await ask(at, 'points', { guest: 'leaks' });
  const number = (name: string, what: RegExp) =>
    Number(what.exec(points.find((p) => p.name === name)?.inner ?? '')?.[1]);
  return {
    ...found,
    'guest descriptors': guest.descriptors,
    'guest sockets': guest.sockets,
    'guest MB': guest.rssMb,
    ports: number('event channels', /^(\d+) ports/),
    grants: number('grant table', /(\d+) in use/),
    watches: number('xenstore: watches', /^(\d+) set/),
  };
}

const guests = await ensureGuests();
network = await startNetwork(cli, join(dir, 'net.sock'));
const a = await host('A', { firstDomid: 5, networks: network.networks });
const b = await host('B', { firstDomid: 5000, uptimeS: 1000, networks: network.networks });
writeFileSync(join(dir, 'ramdisk'), ramdiskWithPrograms(guests.initramfs));
const disk = join(dir, 'disk.img');
writeFileSync(disk, '');
truncateSync(disk, 16 << 20);
spawnSync('chmod', ['666', disk]);
const config = `name = "leaks"\nkernel = "${guests.vmlinux}"\nramdisk = "${join(dir, 'ramdisk')}"\nmemory = 96
extra = "console=hvc0 rdinit=/init quiet"\ndisk = ['${disk},raw,xvda,w']\nvif = [ "mac=00:16:3e:5e:ed:02" ]\n`;
await ask(a, 'create', { config, file: 'leaks.cfg', directory: dir });
await typed(a, 'leaks', '', /guest# /, 600);
await typed(
  a,
  'leaks',
  `${network.command}writer 2 again &\n` +
    '(while dd if=/dev/urandom of=/tmp/x bs=4k count=8 2>/dev/null && dd if=/tmp/x of=/dev/xvda bs=4k seek=$((RANDOM % 4000)) conv=fsync 2>/dev/null; do :; done; echo DISK FAILED) &\n',
  /WRITER round=65 /,
  600,
);
const end = Date.now() + MINUTES * 60_000;
const seen: Readonly<Record<string, number>>[] = [];
let [from, to] = [a, b];
let moves = 0;
let failed = 0;
const began = Date.now();
while (moves < MOVES && Date.now() < end) {
  try {
    await ask(from, 'migrate', {
      guest: 'leaks',
      host: `127.0.0.1:${to.port}`,
      maxRounds: 3,
      maxDowntimeMs: 60,
    });
    [from, to] = [to, from];
  } catch (error) {
    failed++;
    console.log(`move ${moves + 1}: ${messageOf(error)}`);
    if (failed > 3) break;
  }
  moves++;
  if (moves % EVERY !== 0) continue;
  // It is always compared on the same host.
  const now = await look(from, to);
  seen.push(now);
  console.log(
    `${moves} moves, ${((Date.now() - began) / 1000).toFixed(0)} s: ${Object.entries(now)
      .map(([k, v]) => `${k} ${v}`)
      .join(', ')}`,
  );
}
// It reports every 64th round, which takes a while on a busy machine.
const asked = Date.now();
const text = await typed(from, 'leaks', '', /WRITER/, 240).catch((error: unknown) => {
  console.log(messageOf(error));
});
console.log(`${((Date.now() - asked) / 1000).toFixed(0)} s until the writer's next word`);
const broken = text === undefined || /DISK FAILED|WRITER round=\d+ bad=[1-9]/.test(text);
const download = await network.finish();
console.log(
  `${moves} moves; download ${download.bytes} bytes, ${download.right ? 'right' : 'WRONG'}${broken ? '; the guest found damage, or is silent' : ''}`,
);

/** Memory varies with garbage collection; everything else is a count, and is the same or has leaked. */
const slack = (name: string): number =>
  /MB$/.test(name) ? 40 : /^(ports|grants|watches)$/.test(name) ? 64 : 1;
const [first, ...later] = seen;
const grown = (name: string): boolean =>
  later.length > 0 && later.slice(-2).every((now) => now[name] > first[name] + slack(name));
const leaks = Object.keys(first ?? {}).filter(grown);
for (const name of leaks) console.log(`grows: ${name}: ${seen.map((now) => now[name]).join(' ')}`);
soaked([
  { property: 'a busy guest with disk and network is moved', cases: moves, failures: failed },
  {
    property: 'nothing grows on either host',
    cases: Math.max(1, later.length) * Object.keys(first ?? {}).length,
    failures: later.length === 0 ? 1 : leaks.length,
  },
  {
    property: 'its download on one connection and its memory are right',
    cases: 2,
    failures: Number(!download.right) + Number(broken),
  },
]);
