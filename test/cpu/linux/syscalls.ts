/**
 * The system calls that our test programs make, by Linux's x86-64 numbers and ABI. There is one thread, no signals, and
 * no writing to files. An unknown call ends the test with its number: only calls that Linux programs expect to be
 * missing are refused silently.
 */
import { PAGE } from '../../../src/engine/engine.js';
import { EBADF, EINVAL, ENOENT, ENOSYS, ENOTDIR, ENOTTY, ESPIPE, type Files } from './files.js';
import type { ProcessMemory } from './process-memory.js';
import { packStat } from './stat.js';

export interface Kernel {
  readonly memory: ProcessMemory;
  readonly files: Files;
  readonly program: string;
  /** Nanoseconds. They are executed instructions, so that every run is the same. */
  now(): number;
  setFsBase(value: number): void;
  setGsBase(value: number): void;
  exit(status: number): void;
}

const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const PID = 4711;
const EPOCH = 1_750_000_000;

type Call = (k: Kernel, a: number, b: number, c: number, d: number, e: number, f: number) => number;
const rights = (protection: number) => ({
  write: (protection & PROT_WRITE) !== 0,
  execute: (protection & PROT_EXEC) !== 0,
});
const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;
const nothing: Call = () => 0;
const absent: Call = () => ENOSYS;

function readAt(k: Kernel, fd: number, to: number, count: number, position: number | undefined): number {
  const file = k.files.get(fd);
  if (file === undefined) return EBADF;
  const from = position ?? file.position;
  const part = file.content.subarray(from, from + count);
  k.memory.write(to, part);
  if (position === undefined) file.position += part.length;
  return part.length;
}

function statusOf(k: Kernel, folder: number, name: string, to: number, flags: number): number {
  if (name === '' && folder !== AT_FDCWD) return fileStatus(k, folder, to);
  const s = k.files.status(name, (flags & AT_SYMLINK_NOFOLLOW) === 0);
  if (s === undefined) return ENOENT;
  k.memory.write(to, packStat(s));
  return 0;
}

function fileStatus(k: Kernel, fd: number, to: number): number {
  const file = k.files.get(fd);
  if (file === undefined) return EBADF;
  k.memory.write(to, packStat(file.path.startsWith('/') ? k.files.status(file.path, true) : undefined));
  return 0;
}

function map(
  k: Kernel,
  address: number,
  bytes: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  if (bytes <= 0) return EINVAL;
  const at = (flags & MAP_FIXED) !== 0 ? address : k.memory.reserve(bytes);
  k.memory.mapZeroed(at, pages(bytes), rights(protection));
  if ((flags & MAP_ANONYMOUS) === 0) {
    const file = k.files.get(fd);
    if (file === undefined) return EBADF;
    k.memory.write(at, file.content.subarray(offset, offset + bytes));
  }
  if ((protection & 7) === 0) k.memory.protect(at, pages(bytes), rights(0), false);
  return at;
}

function seek(k: Kernel, fd: number, offset: number, whence: number): number {
  const file = k.files.get(fd);
  if (file === undefined) return EBADF;
  if (!file.path.startsWith('/')) return ESPIPE;
  const base = whence === 0 ? 0 : whence === 1 ? file.position : file.content.length;
  if (base + offset < 0) return EINVAL;
  file.position = base + offset;
  return file.position;
}

function writeVector(k: Kernel, fd: number, vector: number, count: number): number {
  let total = 0;
  for (let i = 0; i < count; i++) {
    const n = k.files.write(
      fd,
      k.memory.read(k.memory.quad(vector + 16 * i), k.memory.quad(vector + 16 * i + 8)),
    );
    if (n < 0) return n;
    total += n;
  }
  return total;
}

function readLink(k: Kernel, name: string, to: number, bytes: number): number {
  const target = name === '/proc/self/exe' ? k.program : k.files.link(name);
  if (target === undefined) return k.files.status(name, false) === undefined ? ENOENT : EINVAL;
  const out = new TextEncoder().encode(target).subarray(0, bytes);
  k.memory.write(to, out);
  return out.length;
}

function control(k: Kernel, fd: number, command: number, argument: number): number {
  const F_DUPFD = 0;
  const F_GETFL = 3;
  const F_DUPFD_CLOEXEC = 1030;
  if (k.files.get(fd) === undefined) return EBADF;
  if (command === F_DUPFD || command === F_DUPFD_CLOEXEC) return k.files.duplicate(fd, argument);
  return command === F_GETFL ? (fd === 0 ? 0 : 1) : 0;
}

function time(k: Kernel, to: number, divisor: number): number {
  k.memory.setQuad(to, EPOCH + Math.floor(k.now() / 1e9));
  k.memory.setQuad(to + 8, Math.floor((k.now() % 1e9) / divisor));
  return 0;
}

function name(k: Kernel, to: number): number {
  const out = new Uint8Array(6 * 65);
  ['Linux', 'stillpoint', '6.1.0', '#1', 'x86_64', ''].forEach(
    (s, i) => void out.set(new TextEncoder().encode(s), 65 * i),
  );
  k.memory.write(to, out);
  return 0;
}

function limits(k: Kernel, to: number): number {
  if (to !== 0) {
    k.memory.setQuad(to, 8 << 20);
    k.memory.setQuad(to + 8, -1);
  }
  return 0;
}

function entries(k: Kernel, fd: number, to: number, bytes: number): number {
  const file = k.files.get(fd);
  if (file?.folder === undefined) return ENOTDIR;
  let at = 0;
  for (; file.position < file.folder.length; file.position++) {
    const encoded = new TextEncoder().encode(file.folder[file.position]);
    const length = (19 + encoded.length + 1 + 7) & ~7;
    if (at + length > bytes) break;
    const record = new Uint8Array(length);
    const view = new DataView(record.buffer);
    view.setBigUint64(0, BigInt(file.position + 1), true);
    view.setBigUint64(8, BigInt(file.position + 1), true);
    view.setUint16(16, length, true);
    record.set(encoded, 19);
    k.memory.write(to + at, record);
    at += length;
  }
  return at;
}

function architecture(k: Kernel, code: number, value: number): number {
  const ARCH_SET_GS = 0x1001;
  const ARCH_SET_FS = 0x1002;
  if (code === ARCH_SET_FS) k.setFsBase(value);
  else if (code === ARCH_SET_GS) k.setGsBase(value);
  else return EINVAL;
  return 0;
}

function randomBytes(k: Kernel, to: number, count: number): number {
  k.memory.write(
    to,
    Uint8Array.from({ length: count }, (_, i) => (i * 37 + 11) & 0xff),
  );
  return count;
}

function end(k: Kernel, status: number): number {
  k.exit(status & 0xff);
  return 0;
}

function protect(k: Kernel, at: number, bytes: number, protection: number): number {
  k.memory.protect(at, pages(bytes), rights(protection), (protection & 7) !== 0);
  return 0;
}

function unmap(k: Kernel, at: number, bytes: number): number {
  k.memory.unmap(at, pages(bytes));
  return 0;
}

/** Writes a struct sysinfo: one GiB of memory, half of it free, in bytes. */
function systemInformation(k: Kernel, to: number): number {
  const out = new Uint8Array(112);
  const view = new DataView(out.buffer);
  view.setBigUint64(32, 1n << 30n, true);
  view.setBigUint64(40, 1n << 29n, true);
  view.setUint16(80, 1, true);
  view.setUint32(104, 1, true);
  k.memory.write(to, out);
  return 0;
}

function processControl(k: Kernel, option: number, to: number): number {
  const PR_GET_NAME = 16;
  if (option !== PR_GET_NAME) return EINVAL;
  const shown = new Uint8Array(16);
  new TextEncoder().encodeInto(k.program.slice(k.program.lastIndexOf('/') + 1), shown.subarray(0, 15));
  k.memory.write(to, shown);
  return 0;
}

const access = (k: Kernel, path: number): number =>
  k.files.status(k.memory.string(path), true) === undefined ? ENOENT : 0;

export const CALLS: ReadonlyMap<number, Call> = new Map<number, Call>([
  [0, (k, fd, to, count) => readAt(k, fd, to, count, undefined)],
  [1, (k, fd, from, count) => k.files.write(fd, k.memory.read(from, count))],
  [2, (k, path, flags) => k.files.open(k.memory.string(path), flags)],
  [3, (k, fd) => k.files.close(fd)],
  [4, (k, path, to) => statusOf(k, AT_FDCWD, k.memory.string(path), to, 0)],
  [5, (k, fd, to) => fileStatus(k, fd, to)],
  [6, (k, path, to) => statusOf(k, AT_FDCWD, k.memory.string(path), to, AT_SYMLINK_NOFOLLOW)],
  [7, nothing], // poll
  [8, (k, fd, offset, whence) => seek(k, fd, offset, whence)],
  [9, map],
  [10, (k, at, bytes, protection) => protect(k, at, bytes, protection)],
  [11, (k, at, bytes) => unmap(k, at, bytes)],
  [12, (k, wanted) => k.memory.brk(wanted)],
  [13, nothing], // rt_sigaction
  [14, nothing], // rt_sigprocmask
  [16, () => ENOTTY], // ioctl
  [17, (k, fd, to, count, position) => readAt(k, fd, to, count, position)],
  [20, (k, fd, vector, count) => writeVector(k, fd, vector, count)],
  [21, access],
  [28, nothing], // madvise
  [32, (k, fd) => k.files.duplicate(fd, 0)],
  [33, (k, fd, to) => k.files.duplicate(fd, 0, to)],
  [39, () => PID],
  [60, end],
  [63, (k, to) => name(k, to)],
  [72, control],
  [
    79,
    (k, to) => {
      k.memory.write(to, new TextEncoder().encode(`${k.files.folder}\0`));
      return k.files.folder.length + 1;
    },
  ],
  [89, (k, path, to, bytes) => readLink(k, k.memory.string(path), to, bytes)],
  [96, (k, to) => time(k, to, 1000)],
  [97, (k, _resource, to) => limits(k, to)],
  [99, systemInformation],
  [102, nothing], // getuid and its like
  [104, nothing],
  [107, nothing],
  [108, nothing],
  [110, () => 1],
  [111, () => PID],
  [115, nothing], // getgroups: none
  [131, nothing], // sigaltstack
  [157, processControl],
  [158, (k, code, value) => architecture(k, code, value)],
  [186, () => PID],
  [
    201,
    (k, to) => {
      if (to !== 0) k.memory.setQuad(to, EPOCH);
      return EPOCH;
    },
  ],
  [202, nothing], // futex
  [217, entries],
  [218, () => PID],
  [221, nothing], // fadvise64
  [228, (k, _clock, to) => time(k, to, 1)],
  [231, end],
  [257, (k, _folder, path, flags) => k.files.open(k.memory.string(path), flags)],
  [262, (k, folder, path, to, flags) => statusOf(k, folder, k.memory.string(path), to, flags)],
  [267, (k, _folder, path, to, bytes) => readLink(k, k.memory.string(path), to, bytes)],
  [269, (k, _folder, path) => access(k, path)],
  [273, nothing], // set_robust_list
  [302, (k, _pid, _resource, _new, to) => limits(k, to)],
  [318, (k, to, count) => randomBytes(k, to, count)],
  [332, absent], // statx
  [334, absent], // rseq
  [435, absent], // clone3
  [439, (k, _folder, path) => access(k, path)],
]);
