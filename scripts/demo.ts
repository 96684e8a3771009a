// npm run demo: two unlike hosts on this machine, a guest that cannot be asked to migrate, ten live migrations, and
// what the guest observed of them. `--json` ends with one line of figures. It downloads a kernel. `--xen`: on a real Xen
// (demo-xen.ts).
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { json, median } from '../bench/harness.js';
import { writeCpio } from '../src/appliance/cpio.js';
import { outerWords } from '../src/cli/table.js';
import { observerElf } from '../src/demo/observer.js';
import { smallKernelElf } from '../src/demo/small-kernel.js';
import { VERDICT, verdictIn } from '../src/demo/verdict.js';
import type { PointRow } from '../src/guest-process/guest-runner.js';
import type { MoveStats } from '../src/protocol/moves.js';
import { initIdentity, loadIdentity, trust } from '../src/transport/identity.js';
import { makeDisk } from './lib/demo-disk.js';
import { type DemoNetwork, startNetwork } from './lib/demo-net.js';
import { messageOf } from './lib/errors.js';
import { ensureGuests } from './lib/guests.js';
import { endProcessesBelow } from './lib/processes.js';
import { ROOT } from './lib/root.js';

process.chdir(ROOT);
const MOVES = 10;

const began = performance.now();
const say = (text: string): void =>
  console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}`);
function die(text: string): never {
  console.error(`demo: ${text}`);
  process.exit(1);
}

if (process.argv.includes('--xen')) {
  const { demoOnXen } = await import('./demo-xen.js');
  process.exit(await demoOnXen(say));
}

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-demo-'));
chmodSync(dir, 0o755);
const cli = join(ROOT, 'dist/cli/main.js');
const children: ChildProcess[] = [];
let network: DemoNetwork | undefined;
let disk: ReturnType<typeof makeDisk> | undefined;
const clean = () => {
  for (const host of ['A', 'B']) {
    if (existsSync(join(dir, host)))
      spawnSync(process.execPath, [cli, 'destroy', '--dir', join(dir, host), 'wild'], {
        stdio: 'ignore',
        timeout: 10_000,
      });
  }
  for (const child of children) child.kill('SIGTERM');
  network?.stop();
  // On a machine that is too busy to answer `destroy`, the guest would go on without its directory.
  endProcessesBelow(dir);
  rmSync(dir, { recursive: true, force: true });
};
process.on('exit', clean);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

type HostName = 'A' | 'B';

/** Runs one verb of the command line. Returns its JSON, which docs/hosts.md describes. */
async function stillpoint<T>(host: HostName, verb: string, ...args: string[]): Promise<T> {
  const child = spawn(process.execPath, [cli, verb, '--dir', join(dir, host), ...args]);
  let out = '';
  let err = '';
  child.stdout.on('data', (d) => (out += d));
  child.stderr.on('data', (d) => (err += d));
  const code = await new Promise((done) => child.on('close', done));
  if (code !== 0) die(`${verb}: exit status ${code}: ${err}`);
  return JSON.parse(out.trim().split('\n').at(-1) || 'null') as T;
}

/** The guest's console at a host: its output, and a function that types. */
function consoleAt(host: HostName) {
  const child = spawn(process.execPath, [cli, 'console', '--dir', join(dir, host), 'wild']);
  children.push(child);
  let text = '';
  child.stdout.on('data', (d) => (text += d.toString('latin1').replaceAll('\r', '')));
  return {
    type: (keys: string) => child.stdin.write(keys),
    close: () => child.kill(),
    lines: (pattern: RegExp) => text.split('\n').filter((line) => pattern.test(line)),
    async until(pattern: RegExp, seconds: number, what: string): Promise<RegExpExecArray> {
      for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
        const found = pattern.exec(text);
        if (found) return found;
        await new Promise((done) => setTimeout(done, 50));
      }
      die(`${what} did not come in ${seconds} s; the console's last lines:\n${text.slice(-2000)}`);
    },
  };
}

const HOSTS = {
  A: {
    xenVersion: '4.17.7',
    uptimeS: 864_000,
    tscKhz: 2_300_000,
    firstDomid: 7,
    cpuModel: 'host A processor',
  },
  B: {
    xenVersion: '4.14.2',
    uptimeS: 0,
    wallClockS: 1,
    tscKhz: 3_100_000,
    firstDomid: 311,
    cpuModel: 'host B processor',
  },
};
let small = process.env.STILLPOINT_DEMO_SMALL === '1';
if (!small) {
  try {
    network = await startNetwork(cli, join(dir, 'net.sock'));
    say(
      'a network is up: our switch, and passt behind it; a server whose download lasts as long as the moves',
    );
  } catch (error) {
    say(`no network (${messageOf(error).split('\n')[0]})`);
  }
}
const ports: Partial<Record<HostName, string>> = {};
// The folder of the guest's files on both hosts.
const folders = { [dir]: dir, [join(ROOT, '.cache')]: join(ROOT, '.cache') };
for (const name of ['A', 'B'] as const) {
  const config = HOSTS[name];
  mkdirSync(join(dir, name));
  writeFileSync(
    join(dir, `${name}.json`),
    JSON.stringify({ ...config, images: folders, kernels: folders, networks: network?.networks ?? {} }),
  );
  await initIdentity(join(dir, name));
  const child = spawn(process.execPath, [
    cli,
    'host',
    '--name',
    name,
    '--listen',
    '127.0.0.1:0',
    '--dir',
    join(dir, name),
    '--config',
    join(dir, `${name}.json`),
  ]);
  children.push(child);
  let out = '';
  child.stdout.on('data', (d) => (out += d));
  child.stderr.on('data', (d) => (out += d));
  for (let i = 0; i < 200 && !/port (\d+)/.test(out); i++) await new Promise((done) => setTimeout(done, 50));
  const port = /port (\d+)/.exec(out);
  if (!port) die(`host ${name} did not start: ${out}`);
  ports[name] = port[1];
  say(
    `host ${name} is up: Xen ${config.xenVersion}, TSC ${config.tscKhz / 1000} MHz, uptime +${config.uptimeS} s, domain ids from ${config.firstDomid}`,
  );
}
// Each host trusts the other's certificate and no others.
for (const [name, other] of [
  ['A', 'B'],
  ['B', 'A'],
] as const) {
  const identity = loadIdentity(join(dir, other));
  if (identity === undefined) die(`host ${other} has no identity`);
  trust(join(dir, name), other, identity.certificate, `127.0.0.1:${ports[other]}`, ['move']);
}

if (!small) {
  try {
    await ensureGuests();
  } catch (error) {
    say(`no Debian kernel (${messageOf(error).split('\n')[0]}): our own small PV kernel runs instead`);
    small = true;
  }
}
if (small) {
  network?.stop();
  network = undefined;
  writeFileSync(join(dir, 'kernel'), smallKernelElf());
  writeFileSync(
    join(dir, 'wild.cfg'),
    `name = "wild"\nkernel = "${join(dir, 'kernel')}"\nextra = "interval_ms=10"\nmemory = 16\n`,
  );
} else {
  const ramdisk = gunzipSync(readFileSync('.cache/guests/initramfs.cpio.gz'));
  disk = makeDisk(join(dir, 'disk.img'));
  const extra = writeCpio([{ path: 'bin/observer', mode: 0o755, data: observerElf() }]);
  writeFileSync(join(dir, 'ramdisk'), gzipSync(Buffer.concat([ramdisk, extra]), { level: 1 }));
  writeFileSync(
    join(dir, 'wild.cfg'),
    `name = "wild"\nkernel = "${join(ROOT, '.cache/guests/vmlinux')}"\nramdisk = "${join(dir, 'ramdisk')}"\n` +
      'extra = "console=hvc0 rdinit=/init quiet initcall_blacklist=xen_setup_shutdown_event"\nmemory = 128\n' +
      disk.config +
      (network === undefined ? '' : 'vif = [ "mac=00:16:3e:5e:ed:01" ]\n'),
  );
}
await stillpoint('A', 'create', '--json', join(dir, 'wild.cfg'));
say(
  small
    ? 'the small kernel boots on host A'
    : "Debian's kernel boots on host A, made wild: it cannot hear a request to suspend",
);
let console_ = consoleAt('A');
if (!small) {
  await console_.until(/guest# /, 240, 'the shell');
  say('shell reached; the observer starts in the guest: everything it can see, every 10 ms');
  if (network !== undefined) console_.type(network.command);
  if (disk !== undefined) console_.type(disk.command);
  console_.type('observer 10 0\n');
}
await console_.until(/OBS START view=(\d+)/, 60, 'the observer');
await console_.until(/OBS n=50 /, 120, 'the first samples');
console_.close();

const downtimes: number[] = [];
let at = 'A' as HostName;
for (let i = 1; i <= MOVES; i++) {
  const to = at === 'A' ? 'B' : 'A';
  const stats = await stillpoint<MoveStats>(at, 'migrate', '--json', 'wild', `127.0.0.1:${ports[to]}`);
  downtimes.push(stats.downtimeMs);
  say(
    `move ${String(i).padStart(2)}: ${at} -> ${to} as domain ${String(stats.domid).padEnd(4)} ${(stats.totalMs / 1000).toFixed(2)} s, ${(stats.bytes / 1e6).toFixed(1).padStart(5)} MB, guest stopped for ${stats.downtimeMs.toFixed(1)} ms`,
  );
  at = to;
}

const back = at === 'A' ? 'B' : 'A';
const rows: Partial<Record<HostName, PointRow[]>> = {};
rows[at] = await stillpoint<PointRow[]>(at, 'points', '--json', 'wild');
console_ = consoleAt(at);
console_.type('v\n'); // a terminal hands over whole lines
const verdict = verdictIn(await console_.until(VERDICT, 60, 'the verdict'));
const differed = console_.lines(/OBS DIFF/);
console_.close();
const { samples, gapNs, backwards, differences, right: computed } = verdict;
await stillpoint(at, 'migrate', '--json', 'wild', `127.0.0.1:${ports[back]}`);
rows[back] = await stillpoint<PointRow[]>(back, 'points', '--json', 'wild');

const download = await network?.finish();
let written: { rounds: number; wrong: number } | undefined;
if (disk !== undefined) {
  console_ = consoleAt(back);
  // The next line that it prints belongs to the time after the last migration.
  const [, last] = await console_.until(disk.said(), 60, 'a word of the disk');
  const [, rounds, wrong] = await console_.until(disk.said(Number(last) + 5), 60, 'a word of the disk');
  written = { rounds: Number(rounds), wrong: Number(wrong) };
  console_.close();
}

console.log(
  `\n  ${'migration point'.padEnd(38)}${'the guest sees'.padEnd(27)}${'host A gave'.padEnd(42)}host B gave`,
);
// These values come from no Xen: the hosts of a demonstration invent them, and say so.
const gave = (row: PointRow | undefined): string =>
  row === undefined ? '' : outerWords({ ...row, outer: row.outer.slice(0, row.pretended ? 28 : 41) });
for (const row of rows.A ?? []) {
  const b = rows.B?.find((r) => r.name === row.name);
  console.log(
    `  ${row.name.padEnd(38)}${row.inner.slice(0, 26).padEnd(27)}${gave(row).padEnd(42)}${gave(b)}`,
  );
}
console.log(`
  The observer in the guest, after ${MOVES} moves: ${samples} samples, ${differences} differences seen, ${backwards} clocks
  ran backwards, longest time between two looks at the clock ${(gapNs / 1e6).toFixed(1)} ms; its computation is
  ${computed ? 'right' : 'WRONG'} (checked here).${differed.map((line) => `\n  ${line}`).join('')}
${
  download === undefined
    ? ''
    : `  The guest's download went on through all moves on one connection: ${(download.bytes / 1e6).toFixed(1)} MB, sha256 ${download.right ? 'right' : download.heard ? 'WRONG' : 'never sent'}.\n`
}${
  written === undefined
    ? ''
    : `  Its file system was written and read back through all moves: ${written.rounds} rounds, ${written.wrong} wrong.\n`
}  Stock Xen asks such a guest to suspend, waits 61 s, and gives up: "guest didn't acknowledge suspend,
  cancelling request". It cannot be moved.
`);
network?.stop();
if (json)
  console.log(
    JSON.stringify({
      moves: MOVES,
      guest: small ? 'small kernel' : 'Debian',
      downtimeMsMedian: median(downtimes),
      downtimeMsMax: Math.max(...downtimes),
      samples,
      differences,
      clocksBackwards: backwards,
      gapMs: gapNs / 1e6,
      computationRight: computed,
      download,
      disk: written,
      seconds: (performance.now() - began) / 1000,
    }),
  );
const right = computed && download?.right !== false && (written?.wrong ?? 0) === 0;
process.exit(differences === 0 && backwards === 0 && right ? 0 : 1);
