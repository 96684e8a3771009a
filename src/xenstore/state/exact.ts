/**
 * The records that this implementation adds to Xen's: generations, causes of unsent messages, and transactions
 * including the order of children. With them a restored server answers every later request as the saved one would
 * have done. Without them (in a stream of another implementation) Xen's records alone are enough to restore.
 */
import type { ByteReader, ByteWriter } from '../../records/fields.js';
import { childPath } from '../core/path.js';
import type { Access, Match, Transaction } from '../core/transaction.js';
import { ABSENT } from '../core/transaction.js';
import { type Content, INTRODUCE_DOMAIN, type Node, RELEASE_DOMAIN, type Tree } from '../core/tree.js';
import { getOctets, putOctets, readPermissions, writePermissions } from './records.js';

export const putCount = (w: ByteWriter, n: number): void => w.big64(BigInt(n));
export const getCount = (r: ByteReader): number => {
  const n = r.big64();
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) r.fail(`a count below 2^53 expected, ${n} found`);
  return Number(n);
};

const putString = (w: ByteWriter, text: string): void => {
  w.u16(text.length);
  putOctets(w, text);
};
const getString = (r: ByteReader): string => getOctets(r, r.u16());

const FIRES: readonly (Match | undefined)[] = [undefined, 'exact', 'subtree'];

function writeAccess(w: ByteWriter, a: Access): void {
  putString(w, a.path);
  putCount(w, a.generation - ABSENT);
  w.u8(a.modified ? 1 : 0);
  w.u8(FIRES.indexOf(a.fire));
  w.u16(a.permissions?.length ?? 0);
  w.u32(a.created);
  writePermissions(w, a.permissions ?? []);
}

function readAccess(r: ByteReader): Access {
  const path = getString(r);
  const generation = getCount(r) + ABSENT;
  const modified = r.u8() !== 0;
  const fire = FIRES[r.u8()];
  const count = r.u16();
  const created = r.u32();
  const permissions = readPermissions(r, count);
  return {
    path,
    generation,
    permissions: count === 0 ? undefined : permissions,
    modified,
    created,
    fire,
  };
}

/** A node that a transaction sees differently from everybody else. */
interface Difference {
  readonly path: string;
  readonly content: Content;
  /** The names of its children, if these or their order differ. */
  readonly names: readonly string[] | undefined;
}

/** Lists the differences, parents before children. */
function differences(live: Tree, own: Tree): Difference[] {
  const found: Difference[] = [];
  const walk = (path: string, theirs: Node | undefined, mine: Node): void => {
    if (theirs === mine) return;
    const names =
      theirs === undefined || theirs.children.list() !== mine.children.list()
        ? mine.children.names()
        : undefined;
    if (names !== undefined || theirs?.generation !== mine.generation)
      found.push({ path, content: mine, names });
    for (const name of mine.children.names())
      walk(childPath(path, name), theirs?.children.get(name), mine.children.get(name)!);
  };
  for (const top of ['/', INTRODUCE_DOMAIN, RELEASE_DOMAIN]) walk(top, live.find(top), own.find(top)!);
  return found;
}

const UNDESCRIBED: Content = { value: '', permissions: [], generation: ABSENT };

/** Applies the differences to `tree`, which is a snapshot of the tree that they were compared with. */
function differ(tree: Tree, list: readonly Difference[], fail: (message: string) => void): void {
  const undescribed = new Set<string>();
  for (const { path, content, names } of list) {
    const there = tree.find(path);
    if (there === undefined) {
      fail(`a transaction's node ${path} has no place`);
      return;
    }
    if (names !== undefined) {
      for (const name of names)
        if (there.children.get(name) === undefined) undescribed.add(childPath(path, name));
      tree.arrange(path, names, UNDESCRIBED);
    }
    undescribed.delete(path);
    tree.set(path, content);
  }
  for (const path of undescribed) fail(`a transaction's node ${path} is not described`);
}

/** Writes everything about a transaction except its id. */
export function writeTransaction(w: ByteWriter, live: Tree, t: Transaction): void {
  w.u32((t.failed ? 1 : 0) | (t.nodeCreated ? 2 : 0));
  w.u32(t.creations);
  putCount(w, t.charged);
  const owners = [...t.memoryOf];
  w.u32(owners.length);
  for (const [domid, bytes] of owners) {
    w.u32(domid);
    w.u32((t.nodesOf.get(domid) ?? 0) >>> 0);
    w.u32(bytes >>> 0);
  }
  w.u32(t.accesses.size);
  for (const access of t.accesses.values()) writeAccess(w, access);
  w.u32(t.denied.size);
  for (const { path, wanted } of t.denied.values()) {
    putString(w, path);
    w.u32(wanted);
  }
  const list = differences(live, t.tree);
  w.u32(list.length);
  for (const { path, content, names } of list) {
    putString(w, path);
    putCount(w, content.generation);
    w.u16(content.permissions.length);
    w.u16(content.value.length);
    writePermissions(w, content.permissions);
    putOctets(w, content.value);
    w.u32(names === undefined ? 0xffffffff : names.length);
    for (const name of names ?? []) putString(w, name);
  }
}

/** Reads it into a transaction that was newly started on the restored tree. */
export function readTransaction(r: ByteReader, t: Transaction): void {
  const flags = r.u32();
  t.failed = (flags & 1) !== 0;
  t.nodeCreated = (flags & 2) !== 0;
  t.creations = r.u32();
  t.charged = getCount(r);
  for (let left = r.u32(); left > 0; left--) {
    const domid = r.u32();
    t.nodesOf.set(domid, r.u32() | 0);
    t.memoryOf.set(domid, r.u32() | 0);
  }
  for (let left = r.u32(); left > 0; left--) {
    const access = readAccess(r);
    t.accesses.set(access.path, access);
  }
  for (let left = r.u32(); left > 0; left--) {
    const path = getString(r);
    const wanted = r.u32();
    t.denied.set(`${wanted}${path}`, { path, wanted });
  }
  const list: Difference[] = [];
  for (let left = r.u32(); left > 0; left--) {
    const path = getString(r);
    const generation = getCount(r);
    const count = r.u16();
    const valueBytes = r.u16();
    const permissions = readPermissions(r, count);
    const value = getOctets(r, valueBytes);
    const size = r.u32();
    let names: string[] | undefined;
    if (size !== 0xffffffff) {
      names = [];
      for (let i = 0; i < size; i++) names.push(getString(r));
    }
    list.push({ path, content: { value, permissions, generation }, names });
  }
  differ(t.tree, list, (message) => r.fail(message));
}
