// npm run soak -- hangs [WORDS]: moves during which a party hangs, is slow or is gone, at every step, with real
// processes that are stopped (SIGSTOP) and continue later. After each, the message of `migrate` must be true, and there
// must be exactly one live guest. WORDS: only rows that contain them. The fake guest is used where only processes and
// daemons matter; a real kernel with a disk of each kind and a network is used where their servers do.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, stackOf } from '../scripts/lib/errors.js';
import { inRoot } from '../scripts/lib/root.js';
import { smallKernelElf } from '../src/demo/small-kernel.js';
import { SilentNbd } from '../test/disk/silent-nbd.js';
import { TwoHosts, until } from '../test/migration/hosts.js';
import { soaked } from './lib/soaked.js';

const only = process.argv[2] ?? '';

/** The time limit for each party that is waited for, seconds. */
const ANSWER_S = 4;
/** How long `migrate` may take to report where the guest is: all time limits of a move, one after another. */
const MOST_S = 120;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
const signal = (pids: readonly number[], name: NodeJS.Signals): void => {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // The process ended meanwhile.
    }
  }
};
const counts = new Map<string, { cases: number; failures: number }>();
let failures = 0;

/** One case: prepares a move, strikes, and compares the message with where the guest is. */
async function tried(
  row: string,
  hosts: TwoHosts,
  name: string,
  began: () => Promise<unknown>,
  harm: () => Promise<unknown>,
  heal: () => Promise<unknown>,
): Promise<void> {
  const count = counts.get(row) ?? { cases: 0, failures: 0 };
  counts.set(row, count);
  count.cases++;
  try {
    const words: string[] = [];
    const moving = hosts.a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 }).then(
      () => words.push('moved'),
      (error: unknown) => words.push(messageOf(error)),
    );
    await began();
    await harm();
    for (let s = 0; words.length === 0 && s < 10 * MOST_S; s++) await pause(100);
    const [said] = words;
    if (said === undefined) throw new Error(`migrate says nothing for ${MOST_S} s`);
    const unsettled = said.includes('does not answer; it is asked until it does');
    await heal();
    await moving;
    const { on } = await hosts.settled(name);
    // Only a destination that hangs while it has the offer leaves the outcome open.
    if (!unsettled && (said === 'moved') !== (on === 'B')) throw new Error(`"${said}", and it is on ${on}`);
    await until('one guest process', () => hosts.processes().length === 1 || undefined);
    const wrong = hosts.violations();
    if (wrong.length > 0) throw new Error(wrong.join('; '));
    console.log(`${row}: ${said}; on ${on}`);
  } catch (error) {
    count.failures++;
    failures++;
    console.log(`${row}: FAILED: ${stackOf(error)}`);
    for (const host of [hosts.a, hosts.b]) console.log(host.log().split('\n').slice(-12).join('\n'));
  } finally {
    await heal().catch(() => {});
    await hosts.clear();
  }
}

// --- processes and daemons, with the fake guest, at each of its steps ---

/** The process of one guest, if it runs. */
const pidsOf = (child: ChildProcess | undefined): number[] => (child?.pid === undefined ? [] : [child.pid]);

const STEPS = [
  'describe',
  'dirty-log',
  'construct',
  'round',
  'pause',
  'save-state',
  'restore-state',
  'attach',
  'start',
];
const PARTIES: Readonly<Record<string, (hosts: TwoHosts) => number[]>> = {
  'the source process': (hosts) => hosts.a.pids(),
  'the destination process': (hosts) => hosts.b.pids(),
  'the destination daemon': (hosts) => pidsOf(hosts.b.process),
};
const HANGS = {
  // This is longer than a slow machine takes, and shorter than any time limit.
  'is slow': 1_000,
  hangs: Number.POSITIVE_INFINITY,
};
const fake = await TwoHosts.open(18_700, { moveAnswerS: ANSWER_S });
for (const [party, processes] of Object.entries(PARTIES))
  for (const [how, ms] of Object.entries(HANGS))
    for (const step of STEPS) {
      const row = `${party} ${how}`;
      if (!`${row} at ${step}`.includes(only)) continue;
      // There is none yet.
      if (party === 'the destination process' && step === 'describe') continue;
      const { name } = await fake.guest();
      fake.gate(step);
      let stopped: number[] = [];
      await tried(
        row,
        fake,
        name,
        () => fake.reached(step),
        async () => {
          stopped = processes(fake);
          signal(stopped, 'SIGSTOP');
          fake.openGate(step);
          if (Number.isFinite(ms)) {
            await pause(ms);
            signal(stopped, 'SIGCONT');
          }
        },
        async () => signal(stopped, 'SIGCONT'),
      );
    }

// --- a daemon that is killed while its guest reboots ---

for (let ms = 0; ms < 1600; ms += 80) {
  const row = 'its daemon is killed while it reboots';
  if (!row.includes(only)) break;
  const count = counts.get(row) ?? { cases: 0, failures: 0 };
  counts.set(row, count);
  count.cases++;
  try {
    const { name, domid } = await fake.guest();
    await fake.a.ask('reboot', { guest: name });
    await pause(ms);
    await fake.a.kill();
    await fake.a.start();
    const { row: again } = await fake.settled(name);
    const lives = await until('another domain of it lives', async () => {
      const { row: now } = await fake.settled(name);
      return now.domid === domid ? undefined : now;
    });
    await until('one guest process', () => fake.processes().length === 1 || undefined);
    console.log(`${row}: after ${ms} ms: domain ${domid}, ${again.domid}, ${lives.domid}`);
  } catch (error) {
    count.failures++;
    failures++;
    console.log(`${row}: after ${ms} ms: FAILED: ${stackOf(error)}`);
    console.log(fake.a.log().split('\n').slice(-12).join('\n'));
  }
  await fake.clear();
}
await fake.close();

// --- servers of disks and networks, with a real kernel ---

const server = new SilentNbd();
await server.listen();
const port = server.port;
let network: ChildProcess | undefined;
// On a busy machine it takes a while to start a real runner.
const real = await TwoHosts.open(18_720, { runner: undefined }, (root, name) => ({
  moveAnswerS: name === 'A' ? 30 : 8,
  networks: { default: `switch:unix:${join(root, 'switch')}` },
}));
const MAIN = inRoot('dist/cli/main.js');
async function startSwitch(): Promise<void> {
  network = spawn(
    process.execPath,
    [MAIN, 'switch', '--listen', `unix:${join(real.root, 'switch')}`, '--mode', '666'],
    {
      stdio: 'ignore',
    },
  );
  await until('the switch listens', () => existsSync(join(real.root, 'switch')) || undefined);
}
writeFileSync(join(real.root, 'kernel'), smallKernelElf());
mkdirSync(join(real.root, 'images'));
let guests = 0;
async function create(configLines: string): Promise<{ name: string; pid: number }> {
  const name = `real${++guests}`;
  const config = `name = "${name}"\nkernel = "${join(real.root, 'kernel')}"\nmemory = 8\nextra = "interval_ms=10"\n${configLines}\n`;
  const { pid } = await real.a.ask('create', {
    config,
    file: `${name}.cfg`,
    directory: real.root,
  });
  return { name, pid };
}
/** Processes with this name below a guest's process. */
function childrenOf(parent: number, name: string): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
        return (
          stat.includes(`(${name})`) && Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}
const nbd = `disk = ['vdev=xvda,format=raw,target=nbd://127.0.0.1:${port}/']`;
function qcow2(): string {
  const image = join(real.root, 'images', `${guests}.qcow2`);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
  return `disk = ['vdev=xvda,format=qcow2,target=${image}']`;
}
/**
 * The description; the guest's devices; what is done to the server of the guest with this process, and how it is
 * undone.
 */
type ServerRow = readonly [
  row: string,
  devices: () => string,
  harm: (pid: number) => Promise<unknown>,
  heal: (pid: number) => Promise<unknown>,
];
const SERVERS: readonly ServerRow[] = [
  [
    'an NBD server hangs',
    () => nbd,
    async () => {
      server.answering = false;
    },
    async () => server.answer(),
  ],
  [
    'an NBD server is slow',
    () => nbd,
    async () => {
      server.answering = false;
      setTimeout(() => server.answer(), 2000);
    },
    async () => server.answer(),
  ],
  [
    'an NBD server is gone',
    () => nbd,
    () => server.close(),
    async () => {
      if (!server.listening) await server.listen(port);
    },
  ],
  [
    'its qemu-nbd hangs at the source',
    qcow2,
    async (pid) => signal(childrenOf(pid, 'qemu-nbd'), 'SIGSTOP'),
    async (pid) => signal(childrenOf(pid, 'qemu-nbd'), 'SIGCONT'),
  ],
  [
    'its qemu-nbd is gone at the source',
    qcow2,
    async (pid) => signal(childrenOf(pid, 'qemu-nbd'), 'SIGKILL'),
    async () => {},
  ],
  [
    'a switch hangs',
    () => "vif = ['']",
    async () => signal(pidsOf(network), 'SIGSTOP'),
    async () => signal(pidsOf(network), 'SIGCONT'),
  ],
  [
    'a switch is gone',
    () => "vif = ['']",
    async () => network?.kill('SIGKILL'),
    async () => {
      if (network?.exitCode !== null || network.signalCode !== null) await startSwitch();
    },
  ],
];
await startSwitch();
for (const [row, devices, harm, heal] of SERVERS) {
  if (!row.includes(only)) continue;
  // Before the move, and at instants during it.
  for (const ms of [-1, 0, 50, 150, 400, 1000]) {
    const made = await create(devices()).catch((error: unknown) =>
      console.log(`${row}: FAILED: ${messageOf(error)}`),
    );
    if (made === undefined) {
      const count = counts.get(row) ?? { cases: 0, failures: 0 };
      counts.set(row, { cases: count.cases + 1, failures: count.failures + 1 });
      failures++;
      continue;
    }
    const { name, pid } = made;
    if (ms < 0) await harm(pid);
    await tried(
      row,
      real,
      name,
      async () => {},
      async () => {
        if (ms < 0) return;
        await pause(ms);
        await harm(pid);
      },
      () => heal(pid),
    );
  }
}
(network as ChildProcess | undefined)?.kill('SIGKILL');
await real.close();
await server.close().catch(() => {});
console.log(`${failures} failures`);
soaked(
  [...counts].map(([row, { cases, failures: failed }]) => ({
    property: `one guest lives, where the words say, when ${row}`,
    cases,
    failures: failed,
  })),
);
