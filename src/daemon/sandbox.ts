/**
 * The sandbox of a guest process, made before the process is what it is: no new privileges, limits, Landlock (which
 * files it may open and execute, whom it may signal and trace) and a filter of system calls. None of it needs root,
 * all of it is inherited by what the process starts, and nothing takes it off again. What this machine cannot do is
 * left out and said: the process runs all the same.
 * Source: Linux, Documentation/userspace-api/{landlock,seccomp_filter}.rst, include/uapi/linux/landlock.h.
 */
import { closeSync, existsSync, openSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Libc } from './libc.js';
import { systemCallFilter } from './system-call-filter.js';

export interface SandboxOptions {
  /** Programs that may be executed: paths, or names that are looked for in the usual directories. */
  readonly programs: readonly string[];
  /** A directory of which the process shall see no more than `own`; undefined: users and modes see to that. */
  readonly hidden: { readonly directory: string; readonly own: string } | undefined;
}

const CREATE_RULESET_VERSION = 1;
/** Version 6 of Landlock has scopes. */
const SCOPES_SINCE = 6;
const SCOPE_ABSTRACT_UNIX_SOCKET = 1;
const SCOPE_SIGNAL = 2;
const ACCESS_EXECUTE = 0x1;
/** To write and to read a file. */
const ACCESS_FILE = 0x6;
/** All that the first version knows, but execution. */
const ACCESS_ALL = 0x1ffe;
const O_PATH_CLOEXEC = 0o12000000;

const RLIMIT_CORE = 4;
const RLIMIT_NOFILE = 7;
const RLIMIT_MSGQUEUE = 12;
const LIMITS = [
  [RLIMIT_CORE, 0],
  [RLIMIT_NOFILE, 4096],
  [RLIMIT_MSGQUEUE, 0],
] as const;

const PROGRAM_DIRECTORIES = ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'];
/** The C library's part that the kernel executes with a program. */
const INTERPRETERS = [
  '/lib64/ld-linux-x86-64.so.2',
  '/lib/ld-musl-x86_64.so.1',
  '/lib/ld-linux-aarch64.so.1',
];

/** Restricts this thread and all that comes of it; says what could not be had. */
export function restrict(libc: Libc, options: SandboxOptions): string[] {
  const missing: string[] = [];
  for (const [resource, limit] of LIMITS) {
    const both = BigUint64Array.of(BigInt(limit), BigInt(limit));
    if (libc.setrlimit(resource, new Uint8Array(both.buffer)) !== 0) missing.push(`limit ${resource}`);
  }
  if (!libc.noNewPrivileges()) return [...missing, 'no_new_privs'];
  const { hidden } = options;
  const visible = hidden === undefined ? undefined : beside(realpathSync(hidden.directory));
  // Only what is allowed can be told: where a directory cannot be listed, nothing in it can be hidden.
  if (hidden !== undefined && visible === undefined)
    missing.push(`way to list what is beside ${hidden.directory}, which is not hidden`);
  const allowed = hidden === undefined || visible === undefined ? undefined : [...visible, hidden.own];
  if (!landlock(libc, options.programs, allowed)) missing.push('Landlock');
  const filter = systemCallFilter(process.arch);
  if (filter === undefined || !libc.filterSystemCalls(filter)) missing.push('a filter of system calls');
  return missing;
}

/** `allowed`: what may be opened; undefined: all. */
function landlock(libc: Libc, programs: readonly string[], allowed: readonly string[] | undefined): boolean {
  const version = libc.createRuleset(null, 0, CREATE_RULESET_VERSION);
  if (version < 1) return false;
  const scopes = version >= SCOPES_SINCE;
  const files = allowed === undefined ? 0 : ACCESS_ALL;
  // struct landlock_ruleset_attr: files, network, scopes; earlier versions know the beginning of it.
  const attributes = BigUint64Array.of(
    BigInt(ACCESS_EXECUTE | files),
    0n,
    BigInt(SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL),
  );
  const bytes = new Uint8Array(attributes.buffer);
  const ruleset = libc.createRuleset(bytes, scopes ? 24 : 8, 0);
  if (ruleset < 0) return false;
  for (const path of executables(programs))
    allow(libc, ruleset, path, ACCESS_EXECUTE | (files & ACCESS_FILE));
  for (const path of allowed ?? []) allow(libc, ruleset, path, files);
  return libc.restrictSelf(ruleset) === 0;
}

/** Allows an access to a file, or to all in a directory. What is not there is not allowed. */
function allow(libc: Libc, ruleset: number, path: string, access: number): void {
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
  // For a file, what only a directory can have is refused.
  for (const rights of [access, access & (ACCESS_EXECUTE | ACCESS_FILE)]) {
    view.setBigUint64(0, BigInt(rights), true);
    if (libc.addRule(ruleset, rule) === 0) break;
  }
  closeSync(fd);
}

function executables(programs: readonly string[]): string[] {
  const places = (name: string): string[] =>
    name.startsWith('/') ? [name] : PROGRAM_DIRECTORIES.map((directory) => join(directory, name));
  return [...programs.flatMap(places), ...INTERPRETERS].filter(existsSync);
}

/** All that is in the directories above this one, but for the way to it; undefined where one cannot be listed. */
function beside(directory: string): string[] | undefined {
  const all: string[] = [];
  for (let at = directory; at !== dirname(at); at = dirname(at)) {
    try {
      all.push(...readdirSync(dirname(at)).map((name) => join(dirname(at), name)));
    } catch {
      return undefined;
    }
  }
  const way = `${directory}/`;
  return all.filter((path) => !way.startsWith(`${path}/`));
}
