// npm run soak -- crashes [STRIKES [SEED]]: a Linux under load (it changes memory and writes a disk) migrates back and
// forth. At so many (100) random instants of its moves something is killed with SIGKILL, cut, stopped or filled up.
// After each there must be exactly one live guest, on one host, with every write that was acknowledged to it.
import { execFileSync } from 'node:child_process';
import {
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { codeOf, messageOf, stackOf } from '../scripts/lib/errors.js';
import type { TestHost } from '../test/migration/hosts.js';
import { soaked } from './lib/soaked.js';

const strikes = Number(process.argv[2] ?? 100);
const seed = Number(process.argv[3] ?? Date.now() % 1e9);
console.log(`seed ${seed}`);

// Where file systems can be made, all files of the hosts are on one that can be filled up.
const base = mkdtempSync(join(tmpdir(), 'stillpoint-crashes-'));
let small = false;
try {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512m,mode=755', 'tmpfs', base], { stdio: 'ignore' });
  process.env.TMPDIR = base;
  small = true;
} catch {
  console.log('no file system of our own to fill up: that strike is left out');
}

const { Random } = await import('../test/twin/random.js');
const { TwoHosts, until } = await import('../test/migration/hosts.js');
const { bootLinux, guestFiles, WILD } = await import('../test/e2e/moving-guests.js');
if (guestFiles === undefined) process.exit(2);
const random = new Random(seed);
const RECORDS = 512;
const SECTOR = 512;

// B's clock is thirty years ahead.
const hosts = await TwoHosts.open(17_700, { runner: undefined }, (_root, name) =>
  name === 'B' ? { wallClockS: 30 * 365 * 86_400 } : {},
);
const image = join(hosts.root, 'crash.img');
writeFileSync(image, '');
truncateSync(image, RECORDS * SECTOR);
const boot = `on_crash = "restart"\ndisk = ['${image},raw,xvda,w']`;
/** In the guest: numbered records, each reported only when it is on the disk. */
const LOAD = (from: number): string =>
  `r() { printf '%-511d\\n' $n | dd of=/dev/xvda bs=512 seek=$((n%${RECORDS})) conv=fsync,notrunc 2>/dev/null; }; ` +
  // A write that fails (the host's disk is full) is repeated.
  `w() { n=${from}; while :; do n=$((n+1)); until r; do sleep 0.1; done; echo $n >/tmp/n; done; }; ` +
  'w & writer 8 again >/tmp/writer & echo loa""ded\n';

let at = hosts.a;
const other = () => (at === hosts.a ? hosts.b : hosts.a);
const say = (keys: string, pattern: RegExp, seconds = 200) => at.consoleOf('crash', keys, pattern, seconds);
let asked = 0;
/** The last record that was acknowledged to the guest; /tmp/n is empty for an instant each time it is written. */
async function acknowledged(): Promise<number> {
  const n = ++asked;
  const text = await say(
    `echo "a""sked ${n} $(until grep . /tmp/n 2>/dev/null; do :; done) $(grep -c 'bad=[1-9]' /tmp/writer)."\n`,
    new RegExp(`asked ${n} \\d+ \\d+\\.`),
  );
  const [, done, bad] = (new RegExp(`asked ${n} (\\d+) (\\d+)\\.`).exec(text) ?? []).map(Number);
  if (bad > 0) throw new Error('memory of the guest was not what it had written');
  return done;
}
/** Seconds since the guest was switched on, by its own Xen. */
const uptimeOf = async (): Promise<number> =>
  (await at.list()).find((row) => row.name === 'crash')?.uptimeSeconds ?? Number.NaN;
/** Returns the latest record on the disk; each of the last RECORDS must be there. */
function onDisk(): number {
  const all = Buffer.alloc(RECORDS * SECTOR);
  const fd = openSync(image, 'r');
  readSync(fd, all, 0, all.length, 0);
  const numbers = Array.from({ length: RECORDS }, (_, i) =>
    // 0: it has not been written yet.
    Number(all.toString('latin1', i * SECTOR, i * SECTOR + 20).replaceAll('\0', '')),
  );
  const latest = Math.max(...numbers);
  for (let n = Math.max(1, latest - RECORDS + 1); n <= latest; n++)
    if (numbers[n % RECORDS] !== n)
      throw new Error(`record ${n} is lost; ${numbers[n % RECORDS]} is in its place`);
  return latest;
}
/** Returns what the guest has acknowledged, from the console log of a guest that may be dead. */
const kill = (pids: readonly number[]): void => {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // The process ended meanwhile.
    }
  }
};
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
const everybody = (): number[] =>
  [...hosts.processes().map(Number), hosts.a.process?.pid, hosts.b.process?.pid].filter(
    (pid) => pid !== undefined,
  );

const restart = async (host: TestHost): Promise<void> => {
  await host.kill();
  await host.start();
};

let ballast = 0;
/** Its name, and what it does to the hosts between which a guest moves. */
type Strike = readonly [name: string, strike: (from: TestHost, to: TestHost) => unknown];
const STRIKES: readonly Strike[] = [
  ['the source daemon killed', (from) => restart(from)],
  ['the destination daemon killed', (_, to) => restart(to)],
  ['the destination process killed', async (_, to) => kill(to.pids())],
  ['the connections cut', async () => hosts.proxy.cut()],
  [
    'both daemons killed',
    async (from, to) => {
      await Promise.all([from.kill(), to.kill()]);
      await to.start();
      await from.start();
    },
  ],
  [
    'all processes stopped for some seconds',
    async () => {
      const pids = everybody();
      for (const pid of pids) process.kill(pid, 'SIGSTOP');
      await pause(3000);
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    },
  ],
  ['the source process killed', async (from) => kill(from.pids())],
  ...(small
    ? ([
        [
          'the disk full',
          async () => {
            const { bavail, bsize } = statfsSync(base);
            const path = join(base, `ballast${ballast++}`);
            try {
              writeFileSync(path, Buffer.alloc(Math.max(0, bavail * bsize)));
            } catch (error) {
              // Other processes write meanwhile; the disk is full in any case.
              if (codeOf(error) !== 'ENOSPC') throw error;
            }
            await pause(1500);
            rmSync(path);
          },
        ],
      ] satisfies Strike[])
    : []),
];

const counts = new Map<string, { cases: number; failures: number }>();
await bootLinux(hosts, at, { name: 'crash', extra: WILD, configLines: boot });
await say(LOAD(0), /loaded/);
let typicalMs = 2500;
for (let i = 0; i < strikes; i++) {
  // A dead source process is a dead guest, unless all of it had been sent: it is switched on again, which takes long.
  let [name, strike] = STRIKES[i % STRIKES.length];
  if (name === 'the source process killed' && i % 3 !== 0) [name, strike] = random.pick(STRIKES.slice(0, 5));
  const count = counts.get(name) ?? { cases: 0, failures: 0 };
  counts.set(name, count);
  count.cases++;
  const [from, to] = [at, other()];
  try {
    const before = await acknowledged();
    const uptime = await uptimeOf();
    const began = performance.now();
    const outcome = from.ask('migrate', { guest: 'crash', host: to.name }).then(
      () => 'moved',
      (error: unknown) => messageOf(error),
    );
    const instant = random.below(1.15 * typicalMs);
    await pause(instant);
    await strike(from, to);
    const said = await outcome;
    if (said === 'moved') typicalMs = 0.8 * typicalMs + 0.2 * Math.min(5000, performance.now() - began);
    const settled = await hosts.settled('crash');
    at = settled.on === 'A' ? hosts.a : hosts.b;
    await until('one guest process', () => hosts.processes().length === 1 || undefined);
    // The guest's uptime continues across all its moves.
    const again = (await uptimeOf()) < uptime;
    if (again) {
      if (!/process killed/.test(name)) throw new Error('the guest was switched on again');
      const latest = onDisk();
      if (latest < before) throw new Error(`record ${before} was told to be done, ${latest} is the latest`);
      await say('', /guest# /, 300);
      await say(LOAD(latest), /loaded/);
      await pause(1000);
    }
    const done = await acknowledged();
    const latest = onDisk();
    if (latest < done || done < before)
      throw new Error(`${done} records were told to be done, ${latest} is the latest`);
    if (i % 10 === 9 || again)
      console.log(
        `${i + 1}: ${name} after ${instant} ms: ${said}; on ${at.name}, record ${done}${again ? ', switched on again' : ''}`,
      );
  } catch (error) {
    count.failures++;
    console.log(`${i + 1}: ${name}: ${stackOf(error)}`);
    for (const host of [hosts.a, hosts.b])
      console.log(readFileSync(join(host.dir, 'daemon.log'), 'utf8').split('\n').slice(-12).join('\n'));
    // The guest is started again.
    for (const pid of everybody()) process.kill(pid, 'SIGCONT');
    // A guest that has crashed may be about to be switched on again.
    for (let quiet = 0; quiet < 3; quiet++) {
      const rows = [...(await hosts.a.list()), ...(await hosts.b.list())];
      if (rows.length > 0) quiet = 0;
      await hosts.clear();
      await pause(2000);
    }
    at = hosts.a;
    writeFileSync(image, '');
    truncateSync(image, RECORDS * SECTOR);
    await bootLinux(hosts, at, { name: 'crash', extra: WILD, configLines: boot });
    await say(LOAD(0), /loaded/);
  }
}
await hosts.close();
if (small) execFileSync('umount', ['-l', base]);
rmSync(base, { recursive: true, force: true });
soaked(
  [...counts].map(([name, { cases, failures }]) => ({
    property: `one live guest and no lost write, with ${name} in a move`,
    cases,
    failures,
  })),
);
