/**
 * The sandbox of a guest process, set up before the guest's code is loaded: no new privileges, resource limits,
 * Landlock (which files it may open, create and execute, which processes it may signal and trace) and a filter of
 * system calls. None of it needs root, all of it is inherited by the processes that it starts, and it cannot be
 * removed. What this machine does not support is reported; if something vital is missing, the process does not start
 * (guest-launcher.ts).
 * Source: Linux, Documentation/userspace-api/{landlock,seccomp_filter}.rst, include/uapi/linux/landlock.h.
 */
import { closeSync, existsSync, openSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Libc } from './libc.js';
import { systemCallFilter } from './system-call-filter.js';

/** The files that a process may use, if it shares a user with others, so that file permissions do not protect them. */
export interface VisibleFiles {
  /** A directory of which the process may see only its own part: the daemon's directory. */
  readonly hidden: string;
  /** Files and devices that it may write, and folders in which it may write. */
  readonly writable: readonly string[];
  /** Files that it may read, wherever they are. */
  readonly readable: readonly string[];
  /** Unix sockets to which it may connect, besides those in its own directory. */
  readonly sockets: readonly string[];
  /** Its disks are not known: it may write everything outside the hidden directory, which is reported. */
  readonly anyDisk: boolean;
}

export interface SandboxLimits {
  /** Processes and threads of its user; undefined if it shares the user with others. */
  readonly processes: number | undefined;
  /** The longest file that it may write, bytes; undefined for no limit. */
  readonly fileBytes: number | undefined;
}

export interface SandboxOptions {
  /** Programs that may be executed: paths, or names that are looked up in the usual directories. */
  readonly programs: readonly string[];
  /** Its own directory. */
  readonly own: string;
  /** Undefined: users and file permissions decide what it may open. */
  readonly files: VisibleFiles | undefined;
  readonly limits: SandboxLimits;
}

/**
 * What could not be set up. If something is in `vital`, the process is not confined; the messages in `other` say what
 * each gap means.
 */
export interface Missing {
  readonly vital: readonly string[];
  readonly other: readonly string[];
}

const CREATE_RULESET_VERSION = 1;
/** Versions of Landlock, by the feature used here that each has added. */
const TRUNCATE_SINCE = 3;
const IOCTL_SINCE = 5;
const SCOPES_SINCE = 6;
export const UNIX_SOCKETS_SINCE = 9;
const SCOPE_ABSTRACT_UNIX_SOCKET = 1;
const SCOPE_SIGNAL = 2;

const EXECUTE = 0x1;
const WRITE_FILE = 0x2;
const READ_FILE = 0x4;
const READ_DIR = 0x8;
const REMOVE_DIR = 0x10;
const REMOVE_FILE = 0x20;
const MAKE_CHAR = 0x40;
const MAKE_DIR = 0x80;
const MAKE_REG = 0x100;
const MAKE_SOCK = 0x200;
const MAKE_FIFO = 0x400;
const MAKE_BLOCK = 0x800;
const MAKE_SYM = 0x1000;
const TRUNCATE = 0x4000;
const IOCTL_DEV = 0x8000;
const RESOLVE_UNIX = 0x1_0000;

/** What a guest process may never create: others could take such a file for an ordinary one and be led elsewhere. */
const NEVER = MAKE_CHAR | MAKE_FIFO | MAKE_BLOCK | MAKE_SYM;
const READ = READ_FILE | READ_DIR;
const CHANGE = WRITE_FILE | TRUNCATE | IOCTL_DEV;
const OWN = READ | CHANGE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | RESOLVE_UNIX;
/** The access rights that a rule about a file, in contrast to a directory, may have. */
const OF_FILES = EXECUTE | READ_FILE | CHANGE | RESOLVE_UNIX;
const O_PATH_CLOEXEC = 0o12000000;

const RLIMIT_FSIZE = 1;
const RLIMIT_CORE = 4;
const RLIMIT_NPROC = 6;
const RLIMIT_NOFILE = 7;
const RLIMIT_MSGQUEUE = 12;

/** Devices that programs write to, and the one that creates network interfaces. */
const DEVICES = ['/dev/null', '/dev/zero', '/dev/full', '/dev/net/tun'];
const PROGRAM_DIRECTORIES = ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'];
/** The dynamic loaders, which the kernel executes together with a program. */
const INTERPRETERS = [
  '/lib64/ld-linux-x86-64.so.2',
  '/lib/ld-musl-x86_64.so.1',
  '/lib/ld-linux-aarch64.so.1',
];

/** Restricts this thread and all processes that it starts; returns what could not be set up. */
export function restrict(libc: Libc, options: SandboxOptions): Missing {
  const { files, limits } = options;
  const vital: string[] = [];
  const other: string[] = [];
  for (const [resource, limit] of [
    [RLIMIT_CORE, 0],
    [RLIMIT_NOFILE, 4096],
    [RLIMIT_MSGQUEUE, 0],
    [RLIMIT_NPROC, limits.processes],
    [RLIMIT_FSIZE, limits.fileBytes],
  ] as const) {
    if (limit === undefined) continue;
    const both = BigUint64Array.of(BigInt(limit), BigInt(limit));
    if (libc.setrlimit(resource, new Uint8Array(both.buffer)) !== 0) other.push(`limit ${resource}`);
  }
  if (!libc.noNewPrivileges()) return { vital: ['no_new_privs'], other };
  const version = libc.createRuleset(null, 0, CREATE_RULESET_VERSION);
  if (!landlock(libc, version, options, other)) (files === undefined ? other : vital).push('Landlock');
  const filter = systemCallFilter(process.arch);
  if (filter === undefined || !libc.filterSystemCalls(filter)) vital.push('a filter of system calls');
  if (files !== undefined && version < UNIX_SOCKETS_SINCE)
    other.push("way to keep it from this user's unix sockets (Linux 7.1 has one)");
  if (files?.anyDisk === true) other.push('knowledge of its disks yet: it may write what its user may');
  return { vital, other };
}

function landlock(libc: Libc, version: number, options: SandboxOptions, missing: string[]): boolean {
  const { files, own, programs } = options;
  if (version < 1) return false;
  const scopes = version >= SCOPES_SINCE;
  if (!scopes) missing.push('scopes of Landlock (Linux 6.12 has them)');
  const known =
    ~0 &
    ~(version < TRUNCATE_SINCE ? TRUNCATE : 0) &
    ~(version < IOCTL_SINCE ? IOCTL_DEV : 0) &
    ~(version < UNIX_SOCKETS_SINCE ? RESOLVE_UNIX : 0);
  const handled = (EXECUTE | NEVER | (files === undefined ? 0 : OWN)) & known;
  // struct landlock_ruleset_attr: files, network, scopes; earlier versions know only its beginning.
  const attributes = BigUint64Array.of(
    BigInt(handled),
    0n,
    BigInt(SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL),
  );
  const ruleset = libc.createRuleset(new Uint8Array(attributes.buffer), scopes ? 24 : 8, 0);
  if (ruleset < 0) return false;
  const allow = (path: string, access: number): void => allowed(libc, ruleset, path, access & handled);
  for (const path of executables(programs)) allow(path, EXECUTE | READ_FILE);
  if (files !== undefined) {
    const visible = beside(realpathSync(files.hidden));
    if (visible.unlisted !== undefined)
      missing.push(`way to list ${visible.unlisted}: what is in it cannot be opened`);
    for (const path of visible.all) allow(path, files.anyDisk ? READ | CHANGE : READ);
    for (const path of DEVICES) allow(path, READ_FILE | CHANGE);
    for (const path of files.readable) allow(path, READ);
    for (const path of files.writable) allow(path, OWN & ~RESOLVE_UNIX);
    for (const path of files.sockets) allow(path, RESOLVE_UNIX);
    allow(own, OWN);
  }
  return libc.restrictSelf(ruleset) === 0;
}

/** Allows an access to a file, or to everything in a directory. A path that does not exist is skipped. */
function allowed(libc: Libc, ruleset: number, path: string, access: number): void {
  let fd: number;
  try {
    fd = openSync(path, O_PATH_CLOEXEC);
  } catch {
    return;
  }
  // struct landlock_path_beneath_attr, packed.
  const rule = new Uint8Array(12);
  const view = new DataView(rule.buffer);
  view.setInt32(8, fd, true);
  // For a file, the kernel rejects rights that only apply to directories.
  for (const rights of [access, access & OF_FILES]) {
    view.setBigUint64(0, BigInt(rights), true);
    if (rights !== 0 && libc.addRule(ruleset, rule) === 0) break;
  }
  closeSync(fd);
}

function executables(programs: readonly string[]): string[] {
  const places = (name: string): string[] =>
    name.startsWith('/') ? [name] : PROGRAM_DIRECTORIES.map((directory) => join(directory, name));
  return [...programs.flatMap(places), ...INTERPRETERS].filter(existsSync);
}

/** Everything in the directories above this one, except the path to it. */
function beside(directory: string): { readonly all: string[]; readonly unlisted?: string } {
  const all: string[] = [];
  let unlisted: string | undefined;
  for (let at = directory; at !== dirname(at); at = dirname(at)) {
    try {
      all.push(...readdirSync(dirname(at)).map((name) => join(dirname(at), name)));
    } catch {
      unlisted = dirname(at);
    }
  }
  const way = `${directory}/`;
  return { all: all.filter((path) => !way.startsWith(`${path}/`)), unlisted };
}
