// Writes a Linux initramfs: the "newc" form of cpio.
// Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
// Same entries give the same bytes: owner root, time 0, inodes counted up. Archives can be joined end to end.

const TYPES = { file: 0o100000, dir: 0o040000, link: 0o120000, char: 0o020000 };

/** A file, a directory, a symbolic link or a character device (its major and minor number). */
export type CpioEntry =
  | { readonly path: string; readonly mode?: number; readonly data: Uint8Array | string }
  | { readonly path: string; readonly mode?: number; readonly dir: true }
  | { readonly path: string; readonly link: string }
  | { readonly path: string; readonly mode?: number; readonly char: readonly [number, number] };

/** A whole archive with its trailer, a multiple of 512 bytes. Folders that `entries` do not name are added. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const known = new Set<string>();
  let size = 0;
  let inode = 1;
  const push = (bytes: Uint8Array) => {
    parts.push(bytes);
    size += bytes.length;
    const pad = -size & 3;
    if (pad) parts.push(new Uint8Array(pad));
    size += pad;
  };
  const one = (path: string, mode: number, data: Uint8Array, [major, minor]: readonly [number, number]) => {
    const name = Buffer.from(`${path}\0`);
    const links = mode && (mode & TYPES.dir) === TYPES.dir ? 2 : 1;
    const fields = [inode++, mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
    const header = `070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}`;
    push(Buffer.concat([Buffer.from(header), name]));
    push(data);
  };
  const withParents = (path: string) => {
    const at = path.lastIndexOf('/');
    if (at > 0 && !known.has(path.slice(0, at))) add({ path: path.slice(0, at), dir: true });
  };
  const add = (e: CpioEntry) => {
    withParents(e.path);
    if (known.has(e.path)) return;
    known.add(e.path);
    if ('dir' in e) one(e.path, TYPES.dir | (e.mode ?? 0o755), Buffer.alloc(0), [0, 0]);
    else if ('link' in e) one(e.path, TYPES.link | 0o777, Buffer.from(e.link), [0, 0]);
    else if ('char' in e) one(e.path, TYPES.char | (e.mode ?? 0o600), Buffer.alloc(0), e.char);
    else one(e.path, TYPES.file | (e.mode ?? 0o644), Buffer.from(e.data), [0, 0]);
  };
  for (const e of entries) add(e);
  one('TRAILER!!!', 0, Buffer.alloc(0), [0, 0]);
  parts.push(new Uint8Array(-size & 511));
  return Buffer.concat(parts);
}
