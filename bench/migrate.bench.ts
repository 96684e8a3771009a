// npm run bench -- migrate [--json] [--plain]: live migrations of Debian's kernel between two daemons on loopback, idle
// and busy (a program that writes memory without end), with 128 MB and 1 GB of memory in use. It reports total time,
// downtime by parts, and MB/s, with the rate of a bare TCP connection in the same run for comparison. Then it reports
// what a program in the guest observes that reads the clock continuously: its longest gap with and without a migration.
import { type ChildProcess, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ask,
  cli,
  type DaemonHost,
  ramdiskWithPrograms,
  startDaemon,
  typed,
} from '../scripts/lib/daemons.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { endProcessesBelow } from '../scripts/lib/processes.js';
import type { MoveStats } from '../src/protocol/moves.js';
import { json, median, report } from './harness.js';

const MOVES = Number(process.env.STILLPOINT_BENCH_MOVES ?? 6);
const sizes = process.argv.includes('--small') ? [128] : [128, 1024];
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-bench-'));
const children: ChildProcess[] = [];
process.on('exit', () => {
  for (const host of ['A', 'B'])
    spawnSync(process.execPath, [cli, 'destroy', '--dir', join(dir, host), 'bench'], { stdio: 'ignore' });
  for (const child of children) child.kill();
  endProcessesBelow(dir);
  rmSync(dir, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

async function host(name: string, config: object): Promise<DaemonHost> {
  const started = await startDaemon(dir, name, config);
  children.push(started.child);
  return started;
}

/** MB/s of a bare TCP connection on loopback, in one process, without checksums. */
async function tcp(): Promise<number> {
  const size = 512 << 20;
  const chunk = Buffer.alloc(1 << 20, 7);
  const server = net.createServer((socket) => socket.resume());
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  const started = performance.now();
  for (let sent = 0; sent < size; sent += chunk.length)
    if (!socket.write(chunk)) await new Promise((done) => socket.once('drain', done));
  await new Promise<void>((done) => socket.end(done));
  server.close();
  return size / 1000 / (performance.now() - started);
}

const files = await ensureGuests();
writeFileSync(join(dir, 'ramdisk'), ramdiskWithPrograms(files.initramfs));
/** Starts a guest with so much memory on host A, and waits for its shell. */
async function boot(memory: number): Promise<void> {
  const config = `name = "bench"\nkernel = "${files.vmlinux}"\nramdisk = "${join(dir, 'ramdisk')}"\nmemory = ${memory}\nextra = "console=hvc0 rdinit=/init quiet"\n`;
  await ask(a, 'create', { config, file: 'bench.cfg', directory: dir });
  await typed(a, 'bench', '', /guest# /, 600);
}

const a = await host('A', { firstDomid: 5 });
const b = await host('B', { firstDomid: 600, uptimeS: 1000 });
if (!json)
  console.log(
    `${cpus().length} processors, load ${loadavg()[0].toFixed(1)} at the start; ${MOVES} moves each`,
  );
report('migrate', 'bare TCP on loopback', await tcp(), 'MB/s');

for (const size of sizes) {
  for (const busy of [false, true]) {
    const what = `${busy ? 'busy' : 'idle'} guest, ${size === 128 ? '128 MB' : '1 GB'}`;
    // As much memory as the size says is in use; the kernel's own memory is extra.
    await boot(size + 192);
    await typed(a, 'bench', `writer ${size - (busy ? 32 : 0)} &\n`, /WRITER round=1 /, 600);
    if (busy) await typed(a, 'bench', 'writer 32 again &\n', /WRITER round=65 /, 600);
    const all: MoveStats[] = [];
    let [from, to] = [a, b];
    for (let i = 0; i < MOVES; i++) {
      all.push(await ask(from, 'migrate', { guest: 'bench', host: `127.0.0.1:${to.port}`, maxRounds: 6 }));
      [from, to] = [to, from];
      await new Promise((done) => setTimeout(done, 500));
    }
    await ask(from, 'destroy', { guest: 'bench' });
    const of = (pick: (stats: MoveStats) => number) => median(all.map(pick));
    report(
      'migrate',
      `${what}: downtime`,
      of((s) => s.downtimeMs),
      'ms',
      {
        max: Math.max(...all.map((s) => s.downtimeMs)),
      },
    );
    for (const part of Object.keys(all[0].parts) as (keyof MoveStats['parts'])[])
      report(
        'migrate',
        `${what}: downtime, ${part.replace(/Ms$/, '')}`,
        of((s) => s.parts[part]),
        'ms',
      );
    report(
      'migrate',
      `${what}: last pages`,
      of((s) => s.lastPages),
      'pages',
    );
    report(
      'migrate',
      `${what}: total time`,
      of((s) => s.totalMs),
      'ms',
    );
    const first = (s: MoveStats) => s.rounds[0].mbPerSecond;
    report('migrate', `${what}: first round`, of(first), 'MB/s', { sent: of((s) => s.bytes / 1e6) });
    report(
      'migrate',
      `${what}: rounds`,
      of((s) => s.rounds.length),
      '',
    );
  }
}

/** The observer's verdict when it is asked again; `seen`: its number of samples at the previous time. */
async function verdict(at: DaemonHost, seen: number): Promise<{ samples: number; gapMs: number }> {
  const line = /OBS VERDICT n=(\d+) .* gap=(-?\d+) back=(\d+) diff=(\d+) chain=[0-9a-f]{16}/g;
  const last = (text: string) => [...text.matchAll(line)].at(-1)?.slice(1).map(Number);
  const fresh = { test: (text: string) => (last(text)?.[0] ?? 0) > seen };
  const [samples, gapNs, back, differences] = last(await typed(at, 'bench', 'v\n', fresh, 60)) ?? [];
  if (back + differences > 0) throw new Error('the observer saw a difference');
  return { samples, gapMs: gapNs / 1e6 };
}

await boot(128);
await typed(a, 'bench', 'observer 10 0\n', /OBS START /, 60);
/** The longest gap, ms. */
interface Seen {
  readonly without: number;
  readonly during: number;
  readonly over: number;
  readonly downtime: number;
}
const seen: Seen[] = [];
let [from, to] = [a, b];
let samples = 0;
/**
 * The longest gap while `what` runs and in the 1.5 s after it: the gap of a migration ends, and is seen, on the other
 * host.
 */
const gapDuring = async (what: () => Promise<unknown>): Promise<number> => {
  await typed(from, 'bench', 'r\n', /./, 60);
  await what();
  await new Promise((done) => setTimeout(done, 1500));
  const now = await verdict(from, samples);
  samples = now.samples;
  return now.gapMs;
};
for (let i = 0; i < MOVES; i++) {
  const without = await gapDuring(() => new Promise((done) => setTimeout(done, 1500)));
  let downtime = 0;
  const during = await gapDuring(async () => {
    const stats = await ask(from, 'migrate', { guest: 'bench', host: `127.0.0.1:${to.port}` });
    downtime = stats.downtimeMs;
    [from, to] = [to, from];
  });
  seen.push({ without, during, over: during - without - downtime, downtime });
}
const all = (pick: (one: Seen) => number) => ({
  max: Math.max(...seen.map(pick)),
  min: Math.min(...seen.map(pick)),
});
const figure = (name: string, pick: (one: Seen) => number) =>
  report('migrate', `observer: ${name}`, median(seen.map(pick)), 'ms', all(pick));
figure('longest gap without a move', (s) => s.without);
figure('longest gap of a move', (s) => s.during);
figure('downtime', (s) => s.downtime);
figure('gap of a move less both', (s) => s.over);
process.exit(0);
