/**
 * The records of the stream, as values and as bytes. Order and sizes of the fields are Xen's.
 * Source: docs/designs/xenstore-migration.md; tools/xenstored/xenstore_state.h of Xen.
 */
import type { ByteReader, ByteWriter } from '../../records/fields.js';
import { DOMID_INVALID } from '../../xen/hypercalls.js';
import { octetsFromBytes } from '../core/octets.js';
import { type Permission, permission } from '../core/permissions.js';
import { UNLIMITED } from '../core/watches.js';

export const ACCESS_READ = 1;
export const ACCESS_WRITTEN = 2;

const RING = 0;
const SOCKET = 1;
const DEPTH_UNLIMITED = 0xffff;
const LETTERS = 'nrwb';
const PERMISSION_IGNORE = 1;

export function putOctets(w: ByteWriter, text: string): void {
  for (let i = 0; i < text.length; i++) w.u8(text.charCodeAt(i));
}

export function getOctets(r: ByteReader, length: number): string {
  const bytes = r.raw(length);
  return octetsFromBytes(bytes, 0, bytes.length);
}

/** Reads a string of `length` octets, including the terminating NUL. */
function getString(r: ByteReader, length: number): string {
  const text = getOctets(r, length);
  if (text.indexOf('\0') !== length - 1)
    r.fail(`a string of ${length} bytes with its NUL at the end expected`);
  return text.slice(0, -1);
}

export interface ConnectionRecord {
  readonly id: number;
  readonly kind: 'ring' | 'socket';
  /** The domain of a ring. */
  readonly domid: number;
  /** The target's domain id, or -1 if there is none. */
  readonly target: number;
  readonly port: number;
  /** The file descriptor of a socket, or -1 if none is handed over. */
  readonly fd: number;
  /** The bytes of a request that is not complete yet. */
  readonly input: Uint8Array;
  /** How many bytes remain of a message that has been sent in part. */
  readonly partialBytes: number;
  /** All unsent bytes, beginning with those of the partly sent message. */
  readonly output: Uint8Array;
}

export function writeConnection(w: ByteWriter, c: ConnectionRecord): void {
  w.u32(c.id);
  w.u16(c.kind === 'ring' ? RING : SOCKET);
  w.u16(0);
  if (c.kind === 'ring') {
    w.u16(c.domid);
    w.u16(c.target < 0 ? DOMID_INVALID : c.target);
    w.u32(c.port);
  } else {
    w.u32(c.fd >>> 0);
    w.u32(0);
  }
  w.u16(c.input.length);
  w.u16(c.partialBytes);
  w.u32(c.output.length);
  w.raw(c.input);
  w.raw(c.output);
}

export function readConnection(r: ByteReader): ConnectionRecord {
  const id = r.u32();
  const type = r.u16();
  if (type !== RING && type !== SOCKET) r.fail(`connection type 0 or 1 expected, ${type} found`);
  r.u16();
  const ring = type === RING;
  const low = r.u32();
  const high = r.u32();
  const inputBytes = r.u16();
  const partialBytes = r.u16();
  const outputBytes = r.u32();
  if (partialBytes > outputBytes)
    r.fail(`a partial message of ${partialBytes} bytes in ${outputBytes} unsent`);
  const target = low >>> 16;
  return {
    id,
    kind: ring ? 'ring' : 'socket',
    domid: ring ? low & 0xffff : 0,
    target: !ring || target === DOMID_INVALID ? -1 : target,
    port: ring ? high : 0,
    fd: ring ? -1 : low | 0,
    input: r.raw(inputBytes),
    partialBytes,
    output: r.raw(outputBytes),
  };
}

interface WatchRecord {
  readonly connection: number;
  /** The path as the client gave it. */
  readonly path: string;
  readonly token: string;
  readonly depth: number;
}

export function writeWatch(w: ByteWriter, watch: WatchRecord): void {
  w.u32(watch.connection);
  w.u16(watch.path.length + 1);
  w.u16(watch.token.length + 1);
  if (watch.depth !== UNLIMITED) {
    w.u16(Math.min(watch.depth, DEPTH_UNLIMITED - 1));
    w.u16(0);
  }
  putOctets(w, `${watch.path}\0${watch.token}\0`);
}

export function readWatch(r: ByteReader, extended: boolean): WatchRecord {
  const connection = r.u32();
  const pathBytes = r.u16();
  const tokenBytes = r.u16();
  let depth = UNLIMITED;
  if (extended) {
    depth = r.u16();
    if (depth === DEPTH_UNLIMITED) depth = UNLIMITED;
    r.u16();
  }
  return { connection, path: getString(r, pathBytes), token: getString(r, tokenBytes), depth };
}

export interface NodeRecord {
  /** 0 for a node that everybody sees. Otherwise the connection and the transaction that have read or written it. */
  readonly connection: number;
  readonly transaction: number;
  readonly access: number;
  readonly path: string;
  readonly value: string;
  /** Empty if the node does not exist in its transaction. */
  readonly permissions: readonly Permission[];
}

export function writeNode(w: ByteWriter, n: NodeRecord): void {
  w.u32(n.connection);
  w.u32(n.transaction);
  w.u16(n.path.length + 1);
  w.u16(n.value.length);
  w.u16(n.access);
  w.u16(n.permissions.length);
  writePermissions(w, n.permissions);
  putOctets(w, `${n.path}\0${n.value}`);
}

export function readNode(r: ByteReader): NodeRecord {
  const connection = r.u32();
  const transaction = r.u32();
  const pathBytes = r.u16();
  const valueBytes = r.u16();
  const access = r.u16();
  const permissions = readPermissions(r, r.u16());
  const path = getString(r, pathBytes);
  return { connection, transaction, access, path, value: getOctets(r, valueBytes), permissions };
}

export function writePermissions(w: ByteWriter, permissions: readonly Permission[]): void {
  for (const p of permissions) {
    w.u8(LETTERS.charCodeAt(p.access & 3));
    w.u8(p.ignored ? PERMISSION_IGNORE : 0);
    w.u16(p.domid);
  }
}

export function readPermissions(r: ByteReader, count: number): Permission[] {
  const permissions: Permission[] = [];
  for (let i = 0; i < count; i++) {
    const access = LETTERS.indexOf(String.fromCharCode(r.u8()));
    if (access < 0) r.fail("a permission 'n', 'r', 'w' or 'b' expected");
    const flags = r.u8();
    permissions.push(permission(r.u16(), access, (flags & PERMISSION_IGNORE) !== 0));
  }
  return permissions;
}

/** The values of the quotas. The names follow after all values, each with a NUL. */
export function writeQuotas(w: ByteWriter, quotas: readonly (readonly [string, number])[]): void {
  for (const [, value] of quotas) w.u32(value);
  putOctets(w, quotas.map(([name]) => `${name}\0`).join(''));
}

export function readQuotas(r: ByteReader, count: number): [string, number][] {
  const values = Array.from({ length: count }, () => r.u32());
  const names = getOctets(r, r.bytes.length - r.at).split('\0');
  return values.map((value, i) => [names[i] ?? '', value]);
}
