/** Calls of the C library that Node does not provide, through koffi, an optional package. Linux only. */

const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_SET_MODE_FILTER = 1;
const F_SETFD = 2;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const RULE_PATH_BENEATH = 1;
/** Numbers above 423 are the same on all processors. */
const SYS_LANDLOCK_CREATE_RULESET = 444;
const SYS_LANDLOCK_ADD_RULE = 445;
const SYS_LANDLOCK_RESTRICT_SELF = 446;
const SYS_SECCOMP: Readonly<Record<string, number>> = { x64: 317, arm64: 277 };

export interface Libc {
  setrlimit(resource: number, limits: Uint8Array): number;
  noNewPrivileges(): boolean;
  /** `program`: an array of struct sock_filter. */
  filterSystemCalls(program: Uint8Array): boolean;
  createRuleset(attributes: Uint8Array | null, size: number, flags: number): number;
  addRule(ruleset: number, pathBeneath: Uint8Array): number;
  restrictSelf(ruleset: number): number;
  /**
   * The process that connected this unix socket, as the kernel recorded it at that time; undefined if it is not
   * known.
   */
  peerProcess(descriptor: number): number | undefined;
  /** Keeps this descriptor open when another program is executed: Node sets close-on-exec on all of them. */
  keepOpen(descriptor: number): void;
  /** Executes another program in this process; `environment` has NAME=VALUE. Returns only if that fails. */
  execve(path: string, argv: readonly string[], environment?: readonly string[]): number;
}

/** Undefined if koffi is not installed, or finds the C library under none of the names it tries. */
export async function loadLibc(): Promise<Libc | undefined> {
  try {
    // Types: koffi's declarations are of the module, not of its default export.
    const koffi = (await import('koffi')).default as unknown as typeof import('koffi');
    const lib = koffi.load('libc.so.6');
    const prctl = lib.func('prctl', 'int', [
      'int',
      'unsigned long',
      'unsigned long',
      'unsigned long',
      'unsigned long',
    ]);
    const program = koffi.struct('sock_fprog', { len: 'unsigned short', filter: 'void *' });
    const seccomp = lib.func('syscall', 'long', [
      'long',
      'unsigned int',
      'unsigned int',
      koffi.pointer(program),
    ]);
    const create = lib.func('syscall', 'long', ['long', 'void *', 'size_t', 'unsigned int']);
    const add = lib.func('syscall', 'long', ['long', 'int', 'int', 'void *', 'unsigned int']);
    const restrict = lib.func('syscall', 'long', ['long', 'int', 'unsigned int']);
    const getsockopt = lib.func('int getsockopt(int fd, int level, int name, void *value, void *length)');
    const fcntl = lib.func('fcntl', 'int', ['int', 'int', 'int']);
    const execve = lib.func('execve', 'int', ['str', 'str *', 'str *']);
    return {
      setrlimit: lib.func('int setrlimit(int resource, const void *limits)'),
      noNewPrivileges: () => prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) === 0,
      filterSystemCalls: (filter) =>
        seccomp(SYS_SECCOMP[process.arch], SECCOMP_SET_MODE_FILTER, 0, { len: filter.length / 8, filter }) ===
        0,
      createRuleset: (attributes, size, flags) =>
        create(SYS_LANDLOCK_CREATE_RULESET, attributes, size, flags),
      addRule: (ruleset, rule) => add(SYS_LANDLOCK_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0),
      restrictSelf: (ruleset) => restrict(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0),
      peerProcess(descriptor) {
        // struct ucred: process, user, group.
        const credentials = new Int32Array(3);
        const length = Uint32Array.of(credentials.byteLength);
        return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, credentials, length) === 0
          ? credentials[0]
          : undefined;
      },
      keepOpen: (descriptor) => void fcntl(descriptor, F_SETFD, 0),
      execve: (path, argv, environment = []) => execve(path, [...argv, null], [...environment, null]),
    };
  } catch {
    return undefined;
  }
}
