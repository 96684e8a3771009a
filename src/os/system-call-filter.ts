/**
 * A filter that makes the kernel refuse the system calls that a guest process never needs: a program in classic BPF
 * for seccomp. It is a list of refused calls, since the calls that Node needs differ between its versions: calls on
 * other processes, on mounts and namespaces, on kernel modules and clocks, keys, BPF, tracing, io_uring, sockets
 * other than IP and unix, and calls that change the session or the group of a process: its daemon uses the session to
 * end it and everything it has started.
 * Source: Linux, include/uapi/linux/{seccomp,filter,audit,sched}.h, arch/x86/entry/syscalls/syscall_64.tbl.
 */

const BPF_LD_W_ABS = 0x20;
const BPF_JEQ = 0x15;
const BPF_JGE = 0x35;
const BPF_JSET = 0x45;
const BPF_RET = 0x06;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const SECCOMP_RET_ERRNO = 0x00050000;
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** Offsets in struct seccomp_data; the low half of an argument comes first. */
const NR = 0;
const ARCH = 4;
const ARGUMENT_0 = 16;
const AUDIT_ARCH_X86_64 = 0xc000003e;
/** Marks calls of the x32 ABI. */
const X32 = 0x40000000;

const SYS_SOCKET = 41;
const SYS_CLONE = 56;
const SYS_CLONE3 = 435;
/** The flags of new namespaces. CLONE_NEWTIME (0x80) is a flag of unshare, but not of clone. */
const CLONE_NEW = 0x7e020000;
const FAMILIES = { unix: 1, inet: 2, inet6: 10 } as const;

const REFUSED: Readonly<Record<string, number>> = {
  ptrace: 101,
  syslog: 103,
  setpgid: 109,
  setsid: 112,
  mknod: 133,
  personality: 135,
  pivot_root: 155,
  adjtimex: 159,
  chroot: 161,
  acct: 163,
  settimeofday: 164,
  mount: 165,
  umount2: 166,
  swapon: 167,
  swapoff: 168,
  reboot: 169,
  sethostname: 170,
  setdomainname: 171,
  iopl: 172,
  ioperm: 173,
  init_module: 175,
  delete_module: 176,
  quotactl: 179,
  clock_settime: 227,
  kexec_load: 246,
  add_key: 248,
  request_key: 249,
  keyctl: 250,
  mknodat: 259,
  unshare: 272,
  perf_event_open: 298,
  fanotify_init: 300,
  name_to_handle_at: 303,
  open_by_handle_at: 304,
  clock_adjtime: 305,
  setns: 308,
  process_vm_readv: 310,
  process_vm_writev: 311,
  kcmp: 312,
  finit_module: 313,
  kexec_file_load: 320,
  bpf: 321,
  userfaultfd: 323,
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  pidfd_getfd: 438,
  process_madvise: 440,
  mount_setattr: 442,
  quotactl_fd: 443,
};

type Instruction = readonly [code: number, k: number, ifTrue?: number, ifFalse?: number];

const load = (offset: number): Instruction => [BPF_LD_W_ABS, offset];
const answer = (errno: number): Instruction => [BPF_RET, SECCOMP_RET_ERRNO | errno];
const ALLOW: Instruction = [BPF_RET, SECCOMP_RET_ALLOW];
/** Executes `then` if the loaded word is `k`; otherwise continues behind it. */
const when = (k: number, ...then: Instruction[]): Instruction[] => [[BPF_JEQ, k, 0, then.length], ...then];

/**
 * The filter as an array of struct sock_filter; undefined for a processor whose system-call numbers are not known
 * here.
 */
export function systemCallFilter(arch: string): Uint8Array | undefined {
  if (arch !== 'x64') return undefined;
  const families = Object.values(FAMILIES);
  const program: Instruction[] = [
    load(ARCH),
    [BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0],
    answer(ENOSYS),
    load(NR),
    [BPF_JGE, X32, 0, 1],
    answer(ENOSYS),
    ...Object.values(REFUSED).flatMap((nr) => when(nr, answer(EPERM))),
    // The flags of clone3 are in memory, where a filter cannot see them; with this answer the C library uses clone.
    ...when(SYS_CLONE3, answer(ENOSYS)),
    ...when(SYS_CLONE, load(ARGUMENT_0), [BPF_JSET, CLONE_NEW, 0, 1], answer(EPERM), ALLOW),
    ...when(
      SYS_SOCKET,
      load(ARGUMENT_0),
      ...families.flatMap((family) => when(family, ALLOW)),
      answer(EAFNOSUPPORT),
    ),
    ALLOW,
  ];
  const bytes = new Uint8Array(8 * program.length);
  const view = new DataView(bytes.buffer);
  for (const [i, [code, k, ifTrue = 0, ifFalse = 0]] of program.entries()) {
    view.setUint16(8 * i, code, true);
    view.setUint8(8 * i + 2, ifTrue);
    view.setUint8(8 * i + 3, ifFalse);
    view.setUint32(8 * i + 4, k >>> 0, true);
  }
  return bytes;
}
