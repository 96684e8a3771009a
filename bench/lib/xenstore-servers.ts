// The servers that the xenstore bench compares, each as a process of its own with a socket: ours, and Debian's
// xenstored and oxenstored with no-hypervisor.c in place of Xen.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { messageOf } from '../../scripts/lib/errors.js';
import { inRoot } from '../../scripts/lib/root.js';

const PACKAGES = [
  ...['xen-utils-4.17', 'libxenmisc4.17', 'libxencall1', 'libxenevtchn1', 'libxengnttab1'],
  ...['libxenforeignmemory1', 'libxentoollog1', 'libxentoolcore1', 'libxendevicemodel1'],
];

export interface Server {
  readonly name: string;
  /** The path of its socket. */
  readonly socket: string;
  readonly child: ChildProcess;
}

/** Starts a server and waits until its socket answers. */
async function started(
  name: string,
  file: string,
  args: readonly string[],
  socket: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const child = spawn(file, [...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  for (let tries = 0; ; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (child.exitCode !== null || child.signalCode !== null || tries > 200) {
      child.kill();
      throw new Error(`${name} did not start: ${said}`);
    }
    const answers = await new Promise((resolve) => {
      const probe = connect(socket, () => resolve(true));
      probe.on('error', () => resolve(false));
      probe.on('connect', () => probe.destroy());
    });
    if (answers) return { name, socket, child };
  }
}

const ours = (dir: string) =>
  started(
    'stillpoint',
    process.execPath,
    ['dist/cli/main.js', 'xenstored', '--socket', join(dir, 'stillpoint')],
    join(dir, 'stillpoint'),
  );

/**
 * oxenstored renames and removes its log files when they are long: so they are in `dir`, and never a device, which root
 * would remove. What it opens below /proc/xen is simulated by no-hypervisor.c.
 */
export const oxenstoredConfig = (dir: string): string =>
  `xenstored-log-file = ${dir}/log\naccess-log-file = ${dir}/access-log\npersistent = false\npid-file = ${dir}/pid\n` +
  'xenstored-port = /proc/xen/xsd_port\nxenstored-kva = /proc/xen/xsd_kva\nquota-maxentity = 1000000\n';

async function theirs(dir: string, list: Server[]): Promise<void> {
  const compiler = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);
  if (compiler === undefined) throw new Error('no C compiler');
  const root = await fetchDebian(PACKAGES);
  const stub = join(dir, 'no-hypervisor.so');
  const source = inRoot('bench/lib/no-hypervisor.c');
  execFileSync(compiler, ['-w', '-shared', '-fPIC', '-o', stub, source, '-ldl']);
  const bin = join(root, 'usr/lib/xen-4.17/bin');
  const config = join(dir, 'oxenstored.conf');
  writeFileSync(config, oxenstoredConfig(dir));
  const run = async (name: string, args: readonly string[]) => {
    const folder = join(dir, name);
    mkdirSync(folder, { recursive: true });
    const server = await started(name, join(bin, name), args, join(folder, 'socket'), {
      XENSTORED_RUNDIR: folder,
      XENSTORED_PATH: join(folder, 'socket'),
      LD_PRELOAD: stub,
      LD_LIBRARY_PATH: join(root, 'usr/lib/x86_64-linux-gnu'),
    });
    list.push(server);
  };
  await run('xenstored', ['-N']);
  await run('oxenstored', ['--no-fork', '--config-file', config]);
}

/**
 * Starts the servers, ours first. Where others are missing, it says why. Each is put on `list` at once, so that it is
 * stopped in any case.
 */
export async function startServers(dir: string, list: Server[]): Promise<void> {
  list.push(await ours(dir));
  try {
    await theirs(dir, list);
  } catch (error) {
    console.error(`Xen's own xenstored: left out: ${messageOf(error)}`);
  }
}

export const stopped = ({ child }: Server) =>
  new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    child.once('exit', () => resolve());
    child.kill();
  });

/** Processor time that a process has used, in seconds. */
export function cpuSeconds({ child }: Server): number {
  const file = `/proc/${child.pid}/schedstat`;
  if (existsSync(file)) return Number(readFileSync(file, 'utf8').split(' ')[0]) / 1e9;
  return Number.NaN;
}
