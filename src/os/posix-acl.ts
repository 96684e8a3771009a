/**
 * POSIX access control lists of open files: adds and removes the entry of one user, and leaves everything else
 * unchanged. The system calls go through koffi, an optional package, since Node has none for extended attributes.
 * Source: acl(5); Linux, include/uapi/linux/posix_acl_xattr.h (the layout of the attribute).
 */

const ATTRIBUTE = 'system.posix_acl_access';
const VERSION = 2;
const USER_OBJ = 0x01;
const USER = 0x02;
const GROUP_OBJ = 0x04;
const GROUP = 0x08;
const MASK = 0x10;
const OTHER = 0x20;
const NO_ID = 0xffff_ffff;
const MOST_BYTES = 65_536;

const ENODATA = 61;

export const ACL_READ = 4;
export const ACL_WRITE = 2;

interface Entry {
  readonly tag: number;
  perm: number;
  readonly id: number;
}

/** An access control list in the form of the attribute. */
export class Acl {
  constructor(private entries: Entry[]) {}

  /** The list that follows from the mode of a file without one. */
  static ofMode(mode: number): Acl {
    return new Acl([
      { tag: USER_OBJ, perm: (mode >> 6) & 7, id: NO_ID },
      { tag: GROUP_OBJ, perm: (mode >> 3) & 7, id: NO_ID },
      { tag: OTHER, perm: mode & 7, id: NO_ID },
    ]);
  }

  /** Throws if the attribute has another version or is damaged. */
  static decode(bytes: Uint8Array): Acl {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (bytes.length < 4 || (bytes.length - 4) % 8 !== 0 || view.getUint32(0, true) !== VERSION)
      throw new Error('an access control list of an unknown form');
    const entries: Entry[] = [];
    for (let at = 4; at < bytes.length; at += 8)
      entries.push({
        tag: view.getUint16(at, true),
        perm: view.getUint16(at + 2, true),
        id: view.getUint32(at + 4, true),
      });
    return new Acl(entries);
  }

  encode(): Uint8Array {
    const sorted = [...this.entries].sort((a, b) => a.tag - b.tag || a.id - b.id);
    const bytes = new Uint8Array(4 + 8 * sorted.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, VERSION, true);
    for (const [i, { tag, perm, id }] of sorted.entries()) {
      view.setUint16(4 + 8 * i, tag, true);
      view.setUint16(6 + 8 * i, perm, true);
      view.setUint32(8 + 8 * i, id, true);
    }
    return bytes;
  }

  private get mask(): Entry | undefined {
    return this.entries.find(({ tag }) => tag === MASK);
  }
  private inGroupClass = ({ tag }: Entry): boolean => tag === USER || tag === GROUP_OBJ || tag === GROUP;

  /** The permissions of the user's own entry; undefined if there is none. */
  permissionsOf(uid: number): number | undefined {
    const own = this.entries.find(({ tag, id }) => tag === USER && id === uid);
    return own === undefined ? undefined : own.perm & (this.mask?.perm ?? 7);
  }

  /** Adds an entry for the user; the permissions of all others stay the same. */
  allow(uid: number, perm: number): void {
    this.applyMask();
    this.entries = this.entries.filter(({ tag, id }) => tag !== USER || id !== uid);
    this.entries.push({ tag: USER, perm, id: uid });
    this.makeMask();
  }

  /** Removes the user's entry. If no entries of named users and groups remain, the list is equivalent to the mode. */
  forget(uid: number): void {
    this.applyMask();
    this.entries = this.entries.filter(({ tag, id }) => tag !== USER || id !== uid);
    if (this.entries.some(({ tag }) => tag === USER || tag === GROUP)) this.makeMask();
  }

  /** Applies the mask to the entries, so that each says what is effective without a mask. */
  private applyMask(): void {
    const { mask } = this;
    if (mask === undefined) return;
    for (const entry of this.entries) if (this.inGroupClass(entry)) entry.perm &= mask.perm;
    this.entries = this.entries.filter((entry) => entry !== mask);
  }
  private makeMask(): void {
    const perm = this.entries.filter(this.inGroupClass).reduce((all, entry) => all | entry.perm, 0);
    this.entries.push({ tag: MASK, perm, id: NO_ID });
  }
}

/** Access to the lists of open files. */
export interface AclCalls {
  /** Undefined if the file has no list. Throws if its file system does not support lists. */
  read(fd: number): Acl | undefined;
  write(fd: number, acl: Acl): void;
}

let calls: Promise<AclCalls | undefined> | undefined;

/** Undefined if koffi is not installed. */
export function aclCalls(): Promise<AclCalls | undefined> {
  calls ??= load().catch(() => undefined);
  return calls;
}

async function load(): Promise<AclCalls> {
  // Types: koffi's declarations are of the module, not of its default export.
  const koffi = (await import('koffi')).default as unknown as typeof import('koffi');
  const lib = koffi.load('libc.so.6');
  const get = lib.func('intptr_t fgetxattr(int fd, str name, _Out_ void *value, size_t size)');
  const set = lib.func('int fsetxattr(int fd, str name, void *value, size_t size, int flags)');
  const failed = (call: string): Error => new Error(`${call}: errno ${koffi.errno()}`);
  return {
    read(fd) {
      const buffer = new Uint8Array(MOST_BYTES);
      const bytes = Number(get(fd, ATTRIBUTE, buffer, buffer.length));
      if (bytes >= 0) return Acl.decode(buffer.slice(0, bytes));
      if (koffi.errno() === ENODATA) return undefined;
      throw failed('fgetxattr');
    },
    write(fd, acl) {
      const bytes = acl.encode();
      if (set(fd, ATTRIBUTE, bytes, bytes.length, 0) !== 0) throw failed('fsetxattr');
    },
  };
}
