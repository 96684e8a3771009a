// npm run soak -- core: Debian's `crash` reads the cores of a Debian kernel for clouds, of which Debian has the debug
// information: of a guest that runs, and of one that crashed with on_crash = "coredump-destroy". It has to name the
// kernel, walk its tasks, print its log and unwind the stack that caused the crash. It needs apt.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask, startDaemon, typed } from '../scripts/lib/daemons.js';
import { fetchDebian, NoPackages, withLibraries } from '../scripts/lib/debian.js';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureKernel } from '../scripts/lib/kernels.js';
import { until } from '../test/migration/hosts.js';
import { type SoakCount, soaked } from './lib/soaked.js';

const SUITE = 'bookworm';
const READY = /guest# /;

async function tools() {
  const kernel = await ensureKernel({ suite: SUITE, package: 'linux-image-cloud-amd64' });
  const debug = await fetchDebian([`linux-image-${kernel.release}-dbg`], { suite: SUITE });
  return {
    kernel,
    vmlinux: join(debug, `usr/lib/debug/boot/vmlinux-${kernel.release}`),
    crash: await fetchDebian(withLibraries('crash')),
  };
}
const found = await tools().catch((error) => {
  if (!(error instanceof NoPackages)) throw error;
  console.error(`soak core: ${error.message}`);
  if (process.env.STILLPOINT_SOAK_TABLE !== undefined)
    soaked([{ property: 'cores (left out: apt is needed)', cases: 0, failures: 0 }]);
  return process.exit(2);
});
const { kernel, vmlinux } = found;

const rows: SoakCount[] = [];
function check(property: string, holds: boolean, text: string): void {
  rows.push({ property, cases: 1, failures: holds ? 0 : 1 });
  if (!holds) console.log(`${property}: not so:\n${text}`);
}

/** What `crash` prints for these commands. */
function read(core: string, ...commands: string[]): string {
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((dir) => join(found.crash, dir));
  return execFileSync(join(found.crash, 'usr/bin/crash'), ['-s', vmlinux, core], {
    input: `${[...commands, 'quit'].join('\n')}\n`,
    env: { PATH: process.env.PATH, HOME: root, LD_LIBRARY_PATH: libraries.join(':') },
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: 300_000,
  });
}

const root = mkdtempSync(join(tmpdir(), 'stillpoint-core-'));
const host = await startDaemon(root, 'A', {});
try {
  const config = [
    'name = "g"',
    `kernel = "${kernel.vmlinuz}"`,
    `ramdisk = "${kernel.initramfs}"`,
    'memory = 256',
    'vcpus = 2',
    'extra = "console=hvc0"',
    'on_crash = "coredump-destroy"',
  ];
  await ask(host, 'create', { config: `${config.join('\n')}\n`, file: 'g.cfg', directory: root });
  await typed(host, 'g', '', READY, 180);
  const live = join(root, 'live');
  const { bytes } = await ask(host, 'dumpCore', { guest: 'g', path: live });
  console.log(`a core of ${(bytes / 1e6).toFixed(0)} MB is written`);
  const told = read(live, 'sys', 'log', 'list task_struct.tasks -s task_struct.comm,pid -h init_task', 'bt');
  check('crash knows the kernel of a core', told.includes(kernel.release), told);
  check('crash prints the log of a core', /GUEST-READY|Run \/init/.test(told), told.slice(-3000));
  check('crash walks the tasks of a core', /comm = "sh\\/.test(told), told.slice(-3000));
  check('crash unwinds the stack of a core', /do_idle|schedule|start_kernel/.test(told), told.slice(-3000));
  // The guest has gone on.
  await typed(host, 'g', 'echo still here $((6*7))\n', /still here 42/, 60);
  await typed(
    host,
    'g',
    'mount -t proc proc /proc; echo c > /proc/sysrq-trigger\n',
    /sysrq: Trigger a crash/,
    60,
  );
  const [kept] = await until('its core is kept', async () => {
    const all = await ask(host, 'crashes', {});
    return all.length > 0 ? all : undefined;
  });
  const panic = read(join(kept.directory, 'core'), 'log', 'bt');
  check(
    'crash prints the panic of a guest that crashed',
    /Kernel panic|sysrq/.test(panic),
    panic.slice(-3000),
  );
  check('crash unwinds the stack that crashed', /sysrq_handle_crash|panic/.test(panic), panic.slice(-3000));
} catch (error) {
  rows.push({ property: 'cores are written and read', cases: 1, failures: 1 });
  console.log(messageOf(error));
} finally {
  for (const { uuid } of await ask(host, 'list', {}).catch(() => []))
    await ask(host, 'destroy', { guest: uuid }).catch(() => undefined);
  host.child.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
}
soaked(rows);
