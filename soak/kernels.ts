// npm run soak -- kernels [--short] [--moves N] [--only WORD]: every Debian kernel, from its own package: Linux 5.10,
// 6.1, 6.12 and 7.2, each in its amd64 and its cloud build, and 5.10 and 6.1 with PREEMPT_RT; with 1 and with 4 vCPUs;
// with its own disk and network drivers. Each boots, uses both, moves N (10) times back and forth between unlike hosts
// while it writes to its disk, continues to work, and must print nothing that real Xen does not make it print.
// `--short`: each kernel once, with 4 or 1 vCPUs in turn and three moves, for which the run of all soaks has time.
import { spawnSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureKernel, type KernelGuest } from '../scripts/lib/kernels.js';
import { SwitchServer } from '../src/net/links/switch-server.js';
import { oddLines } from '../test/e2e/kernel-log.js';
import { type TestHost, TwoHosts } from '../test/migration/hosts.js';
import { NetPeer } from '../test/support/net-peer.js';
import { type SoakCount, soaked } from './lib/soaked.js';

const { values } = parseArgs({
  options: { moves: { type: 'string' }, only: { type: 'string' }, short: { type: 'boolean' } },
});
const MOVES = Number(values.moves ?? (values.short ? 3 : 10));
const KERNELS: readonly (readonly [suite: string, name: string])[] = [
  ['bullseye', 'linux-image-amd64'],
  ['bullseye', 'linux-image-cloud-amd64'],
  ['bullseye', 'linux-image-rt-amd64'],
  ['bookworm', 'linux-image-amd64'],
  ['bookworm', 'linux-image-cloud-amd64'],
  // Its newer builds (6.1.0-56) also stop on real Xen 4.17, by an interrupt that a processor sends to itself without
  // end.
  ['bookworm', 'linux-image-6.1.0-47-rt-amd64'],
  ['trixie', 'linux-image-amd64'],
  ['trixie', 'linux-image-cloud-amd64'],
  ['sid', 'linux-image-amd64'],
  ['sid', 'linux-image-cloud-amd64'],
];
const PEER = '10.0.2.77';
const PEER_MAC = '02:00:00:00:00:77';
const MEMORY_MIB = 256;
const DISK_BYTES = 16 << 20;

const properties = new Map<string, SoakCount>();
/** Counts one case of a property; a failure is printed, and ends the work with this guest. */
async function check<T>(property: string, where: string, run: () => Promise<T>): Promise<T> {
  const row = properties.get(property) ?? { property, cases: 0, failures: 0 };
  properties.set(property, row);
  row.cases++;
  try {
    return await run();
  } catch (error) {
    row.failures++;
    console.log(`${where}: ${property}: ${messageOf(error)}`);
    throw error;
  }
}

const hosts = await TwoHosts.open(17_900, { runner: undefined }, (root) => ({
  networks: { default: `switch:unix:${join(root, 'net.sock')}` },
}));
const fabric = new SwitchServer(() => undefined);
await fabric.listen({ path: join(hosts.root, 'net.sock') }, 0o666);
const peer = await NetPeer.connect(join(hosts.root, 'net.sock'), PEER_MAC, PEER);

/** Types a command at the guest's shell. Returns what it printed. */
let sequence = 0;
async function command(at: TestHost, guest: string, line: string, seconds = 300): Promise<string> {
  const n = ++sequence;
  const text = await at.consoleOf(
    guest,
    `echo "be""gin${n}"; ${line}; echo "do""ne${n}"\n`,
    new RegExp(`begin${n}\n[\\s\\S]*^done${n}\n`, 'm'),
    seconds,
  );
  return new RegExp(`begin${n}\n([\\s\\S]*)^done${n}\n`, 'm').exec(text)?.[1] ?? '';
}

/** Checks its boot log, its disk and its network; throws at the first failure. */
async function live(where: string, name: string, kernel: KernelGuest, vcpus: number): Promise<string> {
  const disk = join(hosts.root, 'disk', `${name}.img`);
  writeFileSync(disk, '');
  truncateSync(disk, DISK_BYTES);
  spawnSync('chmod', ['666', disk]);
  const config = `
    name = "${name}"
    kernel = "${kernel.vmlinuz}"
    ramdisk = "${kernel.initramfs}"
    memory = ${MEMORY_MIB}
    vcpus = ${vcpus}
    extra = "console=hvc0 rdinit=/init quiet"
    disk = ['${disk},raw,xvda,w']
    vif = ['mac=00:16:3e:00:00:01']\n`;
  await check('boots to its shell', where, async () => {
    await hosts.a.ask('create', { config, file: `${name}.cfg`, directory: hosts.root });
    await hosts.a.consoleOf(name, '', /guest# /, 600);
    await command(hosts.a, name, 'stty -echo; dmesg -n 1');
  });
  await check('is the kernel that was asked for, with its vCPUs', where, async () => {
    const said = await command(hosts.a, name, 'uname -r; grep -c ^processor /proc/cpuinfo');
    if (said !== `${kernel.release}\n${vcpus}\n`) throw new Error(`it says ${said}`);
  });
  // Writes verified blocks, without the page cache, as long as /tmp/on exists; and does one round now.
  const write =
    'r() { n=$((n+1)); yes "round $n" | head -c 131072 >/tmp/d; dd if=/tmp/d of=/dev/xvda bs=32k seek=$((n%64*4)) conv=fsync 2>/dev/null || echo BAD write; ' +
    'echo 1 >/proc/sys/vm/drop_caches; dd if=/dev/xvda bs=32k skip=$((n%64*4)) count=4 2>/dev/null | cmp -s - /tmp/d || echo BAD read; }; ' +
    'w() { n=0; while [ -e /tmp/on ]; do r; echo $n >/tmp/m; mv /tmp/m /tmp/n; done >/tmp/w 2>&1; }';
  const ping = `ping -c 1 -W 20 ${PEER}`;
  const works = async (at: TestHost): Promise<number> => {
    const said = await command(at, name, `${ping} | grep -c "1 packets received"; cat /tmp/n /tmp/w`);
    const [received, rounds, ...bad] = said.trim().split('\n');
    if (received !== '1' || !(Number(rounds) > 0) || bad.length > 0) throw new Error(`it says ${said}`);
    return Number(rounds);
  };
  await check('disk and network work by its own drivers', where, async () => {
    const up = `ifconfig eth0 10.0.2.15 up && arp -s ${PEER} ${PEER_MAC} && lsmod | grep -c -E "^xen_(blk|net)front"`;
    const said = await command(hosts.a, name, `${up}; ${write}; touch /tmp/on; w & sleep 1; true`);
    // Some kernels have it built in.
    if (!/^[0-2]\s*$/m.test(said)) throw new Error(`it says ${said}`);
    await command(hosts.a, name, 'while ! [ -e /tmp/n ]; do sleep 0.1; done');
    await works(hosts.a);
  });
  let [from, to] = [hosts.a, hosts.b];
  const downtimes: number[] = [];
  for (let i = 0; i < MOVES; i++)
    await check('moves while it writes to its disk, and works on', where, async () => {
      const stats = await from.ask('migrate', { guest: name, host: to.name });
      downtimes.push(Math.round(stats.downtimeMs));
      [from, to] = [to, from];
      await works(from);
    });
  await check('no round of its disk is wrong', where, async () => {
    const before = await works(from);
    await command(from, name, `while [ "$(cat /tmp/n)" -le ${before} ]; do sleep 0.1; done; rm /tmp/on`);
    await works(from);
  });
  await check('says nothing that it does not say on real Xen', where, async () => {
    const log = await command(from, name, 'dmesg', 600);
    mkdirSync('.cache/kernel-logs', { recursive: true });
    writeFileSync(join('.cache/kernel-logs', `${name}.txt`), log);
    const odd = oddLines(log);
    if (odd.length > 0) throw new Error(`${odd.length} lines:\n${odd.join('\n')}`);
  });
  await check('powers off when it is asked', where, async () => {
    await from.consoleOf(name, 'poweroff -f\n', /^/);
    const end = Date.now() + 120_000;
    while ((await from.list()).length > 0) {
      if (Date.now() > end) throw new Error('it is still there');
      await new Promise((done) => setTimeout(done, 100));
    }
  });
  const median = downtimes.sort((x, y) => x - y)[downtimes.length >> 1];
  return `${MOVES} moves, downtime ${median} ms (median), ${downtimes.at(-1)} ms at most`;
}

let index = 0;
for (const [suite, name] of KERNELS) {
  const label = `${suite} ${name}`;
  if (values.only !== undefined && !label.includes(values.only)) continue;
  const kernel = await ensureKernel({ suite, package: name });
  for (const vcpus of values.short ? [index++ % 2 === 0 ? 4 : 1] : [1, 4]) {
    const where = `Linux ${kernel.release}, ${vcpus} vCPU${vcpus > 1 ? 's' : ''}`;
    const began = performance.now();
    try {
      const told = await live(
        where,
        `k${vcpus}-${kernel.release.replaceAll(/[^\w.-]/g, '-')}`,
        kernel,
        vcpus,
      );
      console.log(`${where}: well, ${told}, ${((performance.now() - began) / 1000).toFixed(0)} s`);
    } catch (error) {
      if (properties.size === 0) throw error; // else: told and counted
    }
    await hosts.clear();
  }
}
peer.close();
await fabric.close();
await hosts.close();
soaked([...properties.values()]);
