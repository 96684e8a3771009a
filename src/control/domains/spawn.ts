/**
 * Starts a guest process with no more rights than it needs, and finds the processes that outlived an earlier daemon.
 *
 * The process gets: its own directory (0700) as the working directory; open descriptors of the kernel, the ramdisk,
 * its log and the socket on which its daemon connects; a user and group of its own if the daemon is root; no
 * supplementary groups; an empty environment; resource limits; a sandbox (sandbox.ts); and a session of its own, so
 * that it outlives the daemon. The sandbox prevents its processes from leaving that session, so that all of them can
 * be found and ended.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { GUEST_SOCKET } from '../../guest-process/guest-files.js';
import type { LauncherOptions } from '../../guest-process/guest-launcher.js';
import { thisBoot } from '../../os/boot.js';
import { competeAgain, yieldToOthers } from '../../os/cpu-priority.js';
import { mustLieWithin } from '../../os/folder-map.js';
import { connectOwnSocket } from '../../os/foreign-directory.js';
import { watchEnd } from '../../os/process-end.js';
import { MAIN_CODE_RANGE_KIB } from '../../os/worker-limits.js';
import { Failure } from '../../protocol/failure.js';
import type { GuestCode } from '../code-store.js';
import { type Confined, confinementOf } from './confinement.js';
import { lastLine } from './process-log.js';

/**
 * Where a guest's process keeps its files, and its user. Only the daemon can reach these places, except `directory`.
 */
export interface ProcessPlaces {
  readonly directory: string;
  readonly log: string;
  readonly socket: string;
  /** User and group id of the process; undefined to keep the daemon's. */
  readonly uid: number | undefined;
}

export interface SpawnOptions {
  readonly places: ProcessPlaces;
  readonly runner: string;
  readonly code: GuestCode;
  /** "" for none. */
  readonly kernel: string;
  readonly ramdisk: string;
  /** Folders in which these files must lie; undefined: anywhere. */
  readonly kernelFolders: readonly string[] | undefined;
  readonly memoryLimitKib: number;
  readonly confined: Confined;
  /**
   * The process runs at a lower priority until competeAgain() is called, but at most for MOST_YIELD_MS: a busy host
   * might never run it.
   */
  readonly yielding: boolean;
}

export interface ProcessId {
  readonly pid: number;
  /** Start time in clock ticks since boot: it distinguishes the process from a later one with the same number. */
  readonly startTicks: number;
  /** The boot in which it started (src/os/boot.ts); version 0.1 did not record it. */
  readonly boot?: string;
}

/**
 * Limits the two halves of V8's young generation to 4 MiB each instead of 16: a guest's process makes few objects
 * that last, and V8 does not give the memory back.
 */
const ENGINE_OPTIONS = ['--max-semi-space-size=4'];
const CONNECT_TIMEOUT_MS = 20_000;
const MOST_YIELD_MS = 2_000;

export async function spawnGuest(options: SpawnOptions): Promise<ProcessId> {
  const { directory, log, socket, uid } = options.places;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (uid !== undefined) chownSync(directory, uid, uid);
  for (const path of [log, socket]) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const open: number[] = [];
  const file = (path: string, flags: number): number => {
    const fd = openSync(path, flags, 0o600);
    open.push(fd);
    return fd;
  };
  const input = (path: string): number => {
    let fd: number;
    try {
      // A pipe that nobody writes to must not block the daemon.
      fd = file(path === '' ? '/dev/null' : path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      throw new Failure('bad-config', `cannot open ${path}: ${(error as Error).message}`);
    }
    if (path !== '') {
      if (!fstatSync(fd).isFile()) throw new Failure('bad-config', `${path} is no file`);
      if (options.kernelFolders !== undefined) mustLieWithin(fd, options.kernelFolders, path);
    }
    return fd;
  };
  // The socket gets a temporary name of its own while it is made: closing the server removes that name, and not the
  // one to which the socket is renamed.
  const server = net.createServer();
  try {
    const kernel = input(options.kernel);
    const ramdisk = input(options.ramdisk);
    rmSync(log, { force: true });
    const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW } = constants;
    const out = file(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW);
    rmSync(`${socket}.new`, { force: true });
    server.listen({ path: `${socket}.new` });
    await once(server, 'listening');
    renameSync(`${socket}.new`, socket);
    // Types: Node does not declare a server's handle, which knows its descriptor.
    const listening = (server as unknown as { _handle: { fd: number } })._handle.fd;
    const told: LauncherOptions = {
      ...confinementOf(options.confined),
      runner: options.code.module(options.runner),
    };
    // The shell sets the limit that must hold from the start, and then executes Node in its place.
    const child = spawn(
      '/bin/sh',
      [
        '-c',
        'ulimit -d "$1" && ulimit -c 0 && shift && exec "$@"',
        'sh',
        String(options.memoryLimitKib + MAIN_CODE_RANGE_KIB),
        process.execPath,
        ...ENGINE_OPTIONS,
        options.code.launcher,
        JSON.stringify(told),
      ],
      {
        cwd: directory,
        env: {},
        detached: true,
        stdio: ['ignore', out, out, kernel, ramdisk, listening],
        ...(uid === undefined ? {} : { uid, gid: uid }),
      },
    );
    child.on('error', () => {});
    watchEnd(child, options.memoryLimitKib);
    child.unref();
    if (child.pid === undefined)
      throw new Failure('io', `cannot start a process for the guest in ${directory}`);
    const id = { pid: child.pid, startTicks: startTicks(child.pid) ?? 0, boot: thisBoot() };
    if (options.yielding) {
      yieldToOthers(id.pid);
      setTimeout(() => isAlive(id) && competeAgain(id.pid), MOST_YIELD_MS).unref();
    }
    return id;
  } finally {
    server.close();
    for (const fd of open) closeSync(fd);
  }
}

interface ProcessStat {
  readonly state: string;
  readonly group: number;
  readonly session: number;
  readonly startTicks: number;
}

/** The fields of /proc/PID/stat; undefined if there is no such process. */
function statOf(pid: number | string): ProcessStat | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return {
      state: fields[0],
      group: Number(fields[2]),
      session: Number(fields[3]),
      startTicks: Number(fields[19]),
    };
  } catch {
    return undefined;
  }
}

const isOver = (stat: ProcessStat): boolean => stat.state === 'Z' || stat.state === 'X';

/** Start time of a process; undefined if there is no such process or it is a zombie; 0 if it cannot be read now. */
export function startTicks(pid: number): number | undefined {
  const stat = statOf(pid);
  // If the daemon has no descriptor left to read the file with, that does not mean that the process is dead.
  if (stat === undefined) return exists(pid) ? 0 : undefined;
  return isOver(stat) ? undefined : stat.startTicks;
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** True if it started before the host was booted: a process that has its number now is another one. */
const ofEarlierBoot = ({ boot }: ProcessId): boolean => boot !== undefined && boot !== thisBoot();

/** If one of the two start times is unknown, the number alone decides. */
export function isAlive(id: ProcessId): boolean {
  if (ofEarlierBoot(id)) return false;
  const ticks = startTicks(id.pid);
  return ticks !== undefined && (ticks === 0 || id.startTicks === 0 || ticks === id.startTicks);
}

function numbersOfProcesses(): string[] {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}

/**
 * The processes of this guest: those in the session of its process, which its sandbox does not let them leave. The
 * kernel does not reuse the number of a session while a process of it exists. (The user would not do: guests of
 * another daemon on this machine may have the same.)
 */
function processesOf(id: ProcessId): number[] {
  if (ofEarlierBoot(id)) return [];
  const leader = statOf(id.pid);
  if (leader !== undefined && id.startTicks !== 0 && leader.startTicks !== id.startTicks) return [];
  // This is known even if the daemon has no descriptor left.
  const found: number[] = isAlive(id) ? [id.pid] : [];
  for (const name of numbersOfProcesses()) {
    const stat = statOf(name);
    if (stat === undefined || isOver(stat)) continue;
    if (stat.session === id.pid || stat.group === id.pid) found.push(Number(name));
  }
  return found;
}

/** The session of a process; undefined if the process is gone. */
export const sessionOf = (pid: number): number | undefined => statOf(pid)?.session;

/** Sends SIGKILL to exactly this process and to all its descendants. Resolves when they are dead. */
export async function killProcess(id: ProcessId): Promise<void> {
  for (;;) {
    const found = processesOf(id);
    if (found.length === 0) return;
    for (const pid of found) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It died between the two calls.
      }
    }
    await new Promise((done) => setTimeout(done, 5));
  }
}

export async function deathOf(id: ProcessId, timeoutMs = Number.POSITIVE_INFINITY): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (isAlive(id)) {
    if (performance.now() > end) return false;
    await new Promise((done) => setTimeout(done, 5));
  }
  return true;
}

/** The socket of a guest's process. A process that an earlier version started has it in its own directory. */
export function socketOf({ directory, socket }: ProcessPlaces): string {
  const earlier = join(directory, GUEST_SOCKET);
  try {
    lstatSync(socket);
    return socket;
  } catch {
    return lstatSync(earlier, { throwIfNoEntry: false })?.isSocket() === true ? earlier : socket;
  }
}

/** Connects to the process's socket, and waits for the socket to appear. Fails if the process dies before that. */
export async function connectGuest(places: ProcessPlaces, id: ProcessId): Promise<net.Socket> {
  const end = performance.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const socket = await connectOwnSocket(socketOf(places));
    if (socket !== undefined) return socket;
    if (!isAlive(id)) throw new Failure('crashed', `the guest's process ended: ${lastLine(places.log)}`);
    if (performance.now() > end) throw new Failure('timed-out', `the guest's process does not answer`);
    await new Promise((done) => setTimeout(done, 10));
  }
}
