/**
 * Starts a guest process with no more rights than it needs, and finds those that outlived an earlier daemon.
 *
 * The process gets: its own directory as working directory (0700, its own), the kernel and ramdisk as open
 * descriptors, a user and group of its own when the daemon is root, no supplementary groups, an empty
 * environment, a limit on its private memory, no core dumps, a sandbox (sandbox.ts), and a session of its own, so that
 * it outlives us.
 */
import { spawn } from 'node:child_process';
import { chmodSync, chownSync, closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MAIN_CODE_RANGE_KIB } from '../host/standalone/worker-limits.js';
import { Failure } from './failure.js';
import { GUEST_SOCKET, PROCESS_LOG } from './guest-protocol.js';
import { competeAgain, yieldToOthers } from './priority.js';
import { watchEnd } from './process-end.js';

export interface SpawnOptions {
  readonly directory: string;
  readonly runner: string;
  /** "" for none. */
  readonly kernel: string;
  readonly ramdisk: string;
  readonly memoryLimitKib: number;
  /** User and group id of the process, or undefined to stay who we are. */
  readonly uid: number | undefined;
  /** A directory of which the process shall see no more than its own, "" where its user sees to that. */
  readonly hidden: string;
  /** The process yields to others until competeAgain(), or for MOST_YIELD_MS: a host may have no time to spare at all. */
  readonly yielding: boolean;
}

export interface ProcessId {
  readonly pid: number;
  /** Start time in clock ticks since boot: tells a process from a later one with its number. */
  readonly startTicks: number;
}

/** Young objects get 4 MiB twice, not 16: a guest's process makes few that last, and keeps what it once had. */
const ENGINE_OPTIONS = ['--max-semi-space-size=4'];
const LAUNCHER = fileURLToPath(new URL('./guest-launcher.js', import.meta.url));
const CONNECT_TIMEOUT_MS = 20_000;
const MOST_YIELD_MS = 2_000;

export function spawnGuest(options: SpawnOptions): ProcessId {
  const { directory, uid } = options;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (uid !== undefined) chownSync(directory, uid, uid);
  const open: number[] = [];
  const input = (path: string): number => {
    try {
      open.push(openSync(path === '' ? '/dev/null' : path, 'r'));
    } catch (error) {
      throw new Failure('bad-config', `cannot open ${path}: ${(error as Error).message}`);
    }
    return open[open.length - 1];
  };
  try {
    const kernel = input(options.kernel);
    const ramdisk = input(options.ramdisk);
    const log = openSync(join(directory, PROCESS_LOG), 'a', 0o600);
    open.push(log);
    if (uid !== undefined) chownSync(join(directory, PROCESS_LOG), uid, uid);
    // The shell sets the limit that must hold from the beginning, and becomes Node.
    const child = spawn(
      '/bin/sh',
      [
        '-c',
        'ulimit -d "$1" && ulimit -c 0 && shift && exec "$@"',
        'sh',
        String(options.memoryLimitKib + MAIN_CODE_RANGE_KIB),
        process.execPath,
        ...ENGINE_OPTIONS,
        LAUNCHER,
        options.hidden,
        options.runner,
      ],
      {
        cwd: directory,
        env: {},
        detached: true,
        stdio: ['ignore', log, log, kernel, ramdisk],
        ...(uid === undefined ? {} : { uid, gid: uid }),
      },
    );
    child.on('error', () => {});
    watchEnd(child, options.memoryLimitKib);
    child.unref();
    if (child.pid === undefined)
      throw new Failure('io', `cannot start a process for the guest in ${directory}`);
    const id = { pid: child.pid, startTicks: startTicks(child.pid) ?? 0 };
    if (options.yielding) {
      yieldToOthers(id.pid);
      setTimeout(() => isAlive(id) && competeAgain(id.pid), MOST_YIELD_MS).unref();
    }
    return id;
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

/** Field 22 of /proc/PID/stat; undefined if there is no such process, or only its remains; 0 if that cannot be read now. */
export function startTicks(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
  } catch (error) {
    // Where we have no descriptor to read it with, nobody has died of that.
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ESRCH' || !exists(pid) ? undefined : 0;
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Where one of the two times is not known, by its number alone. */
export function isAlive(id: ProcessId): boolean {
  const ticks = startTicks(id.pid);
  return ticks !== undefined && (ticks === 0 || id.startTicks === 0 || ticks === id.startTicks);
}

/** SIGKILL, to exactly this process. Resolves when it is dead. */
export async function killProcess(id: ProcessId): Promise<void> {
  if (isAlive(id)) {
    try {
      process.kill(id.pid, 'SIGKILL');
    } catch {
      // It died between the two.
    }
  }
  await deathOf(id);
}

export async function deathOf(id: ProcessId, timeoutMs = Number.POSITIVE_INFINITY): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (isAlive(id)) {
    if (performance.now() > end) return false;
    await new Promise((done) => setTimeout(done, 5));
  }
  return true;
}

/** Connects to the process's socket, waiting for it to come up. Fails when the process dies before. */
export async function connectGuest(directory: string, id: ProcessId): Promise<net.Socket> {
  const end = performance.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const socket = await tryConnect(join(directory, GUEST_SOCKET));
    if (socket !== undefined) return socket;
    if (!isAlive(id)) throw new Failure('crashed', `the guest's process ended: ${lastLine(directory)}`);
    if (performance.now() > end) throw new Failure('timed-out', `the guest's process does not answer`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

function tryConnect(path: string): Promise<net.Socket | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect({ path });
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}

export function lastLine(directory: string): string {
  try {
    const lines = readFileSync(join(directory, PROCESS_LOG), 'utf8').trimEnd().split('\n');
    return lines[lines.length - 1];
  } catch {
    return '';
  }
}

/** Makes a directory through which guests' processes may pass but not look. */
export function passable(path: string): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o711);
}
