/**
 * The synchronous client for code in this process: a connection without messages. Errors are thrown as XenstoreError,
 * whose `code` is the protocol's name of the error. Text is converted to and from UTF-8; `readBytes` and byte arrays
 * keep octets exactly.
 */
import { EINVAL, ENOSPC } from '../../xen/errno.js';
import { commit } from '../core/commit.js';
import { type Errno, errnoName, XenstoreError } from '../core/errno.js';
import type { View } from '../core/gate.js';
import { bytesFromOctets, octetsFromBytes, octetsFromText, textFromOctets } from '../core/octets.js';
import { canonical } from '../core/path.js';
import { formatPermission, type Permission, parsePermission } from '../core/permissions.js';
import type { Transaction } from '../core/transaction.js';
import { UNLIMITED } from '../core/watches.js';
import type { Connection } from './connection.js';
import type { Hub } from './hub.js';
import { addWatch, removeWatch } from './watching.js';

export type Value = string | Uint8Array;

/** The operations on nodes. They are the same on the store itself and inside a transaction. */
export class LocalView {
  constructor(
    protected readonly server: Hub,
    protected readonly connection: Connection,
    protected readonly transaction: Transaction | undefined,
  ) {
    this.view = { actor: connection.actor, transaction };
  }
  protected readonly view: View;

  /** Reads the value as text. Throws ENOENT, EACCES or EINVAL. */
  read(path: string): string {
    return textFromOctets(this.octets(path));
  }

  /** Reads the value as text. Returns undefined if the node does not exist or may not be read. */
  tryRead(path: string): string | undefined {
    const value = this.server.store.read(this.view, this.path(path, 'read'));
    return typeof value === 'number' ? undefined : textFromOctets(value);
  }

  readBytes(path: string): Uint8Array {
    return bytesFromOctets(this.octets(path));
  }

  /** Whether the node exists and may be read. */
  exists(path: string): boolean {
    return typeof this.server.store.read(this.view, this.path(path, 'exists')) !== 'number';
  }

  /** Writes the node. It creates the node and missing nodes above it. */
  write(path: string, value: Value): void {
    const octets =
      typeof value === 'string' ? octetsFromText(value) : octetsFromBytes(value, 0, value.length);
    this.did(this.server.store.write(this.view, this.path(path, 'write'), octets), 'write', path);
  }

  mkdir(path: string): void {
    this.did(this.server.store.mkdir(this.view, this.path(path, 'mkdir')), 'mkdir', path);
  }

  /**
   * Removes the node and all nodes below it. It is not an error if the node does not exist, but a missing parent
   * gives ENOENT.
   */
  remove(path: string): void {
    this.did(this.server.store.remove(this.view, this.path(path, 'remove')), 'remove', path);
  }

  /** The names of the children, oldest first. */
  list(path: string): readonly string[] {
    const n = this.server.store.directory(this.view, this.path(path, 'list'));
    if (typeof n === 'number') throw this.error(n, 'list', path);
    return n.children.names();
  }

  /** The permissions as xenstore-ls prints them: "n0", "r5", "b3", "w7". The owner's entry is first. */
  getPermissions(path: string): string[] {
    const all = this.server.store.permissions(this.view, this.path(path, 'getPermissions', true));
    if (typeof all === 'number') throw this.error(all, 'getPermissions', path);
    return all.map(formatPermission);
  }

  setPermissions(path: string, permissions: readonly string[]): void {
    const wanted: Permission[] = [];
    for (const text of permissions) {
      const parsed = parsePermission(text);
      if (typeof parsed === 'number') throw this.error(parsed, 'setPermissions', path);
      wanted.push(parsed);
    }
    if (wanted.length === 0) throw this.error(EINVAL, 'setPermissions', path);
    if (this.server.store.accounts.exceeds(this.view.actor, 'permissions', wanted.length))
      throw this.error(ENOSPC, 'setPermissions', path);
    const where = this.path(path, 'setPermissions', true);
    this.did(this.server.store.setPermissions(this.view, where, wanted), 'setPermissions', path);
  }

  private octets(path: string): string {
    if (this.transaction === undefined && this.view.actor.privileged && path.charCodeAt(0) === 0x2f) {
      // The usual case with one look-up: the client may read everything and the node exists.
      const n = this.server.store.tree.find(path);
      if (n !== undefined) return n.value;
    }
    const value = this.server.store.read(this.view, this.path(path, 'read'));
    if (typeof value === 'number') throw this.error(value, 'read', path);
    return value;
  }

  protected path(path: string, request: string, special = false): string {
    const { actor, home } = this.connection;
    // A path at which a node exists is valid, so the usual case needs no other check.
    const { tree } = this.server.store;
    if (actor.privileged && path.charCodeAt(0) === 0x2f && tree.find(path) !== undefined) return path;
    const limit = actor.privileged ? 0 : this.server.store.accounts.limit(actor.domid, 'path-max');
    const absolute = canonical(path, home, special, limit);
    if (typeof absolute === 'number') throw this.error(absolute, request, path);
    return absolute;
  }

  protected did(error: 0 | Errno, request: string, path: string): void {
    if (this.transaction === undefined) this.server.settle();
    if (error !== 0) throw this.error(error, request, path);
  }

  protected error(error: Errno, request: string, path: string): XenstoreError {
    return new XenstoreError(errnoName(error), `${request} ${path}`);
  }
}

/** A transaction that the caller ends. */
export class LocalTransaction extends LocalView {
  #open = true;

  /** Returns false if somebody else has changed what this transaction looked at. In that case nothing was changed. */
  commit(): boolean {
    const t = this.end();
    const error = commit(this.server.store, this.connection.actor, t);
    this.server.endTransaction(this.connection, t);
    this.server.settle();
    if (error !== 0 && errnoName(error) !== 'EAGAIN') throw this.error(error, 'commit', '');
    return error === 0;
  }

  abort(): void {
    this.server.endTransaction(this.connection, this.end());
  }

  private end(): Transaction {
    if (!this.#open) throw new Error('the transaction has ended');
    this.#open = false;
    return this.transaction!;
  }
}

/** A watch that is active until `stop`. */
export interface LocalWatch {
  stop(): void;
}

export class LocalClient extends LocalView {
  private nextToken = 0;
  private readonly listeners = new Map<string, (path: string) => void>();

  constructor(server: Hub, connection: Connection) {
    super(server, connection, undefined);
    connection.listener = (path, token) => this.listeners.get(token)?.(path);
  }

  /**
   * Calls `onEvent` with the path of every change at or below `path` (at most `depth` levels below), and once at the
   * start. It is called between requests, never inside one.
   */
  watch(path: string, onEvent: (path: string) => void, depth = UNLIMITED): LocalWatch {
    const { server, connection } = this;
    const absolute = this.path(path, 'watch', true);
    const token = String(this.nextToken++);
    const first = path.charCodeAt(0);
    const prefix = first === 0x2f || first === 0x40 ? 0 : connection.home.length + 1;
    const watch = addWatch(server, connection, absolute, token, prefix, depth);
    if (typeof watch === 'number') throw this.error(watch, 'watch', path);
    this.listeners.set(token, onEvent);
    server.fireFirst(watch);
    server.settle();
    return {
      stop: () => {
        if (this.listeners.delete(token) && connection.watches.includes(watch))
          removeWatch(server, connection, watch);
      },
    };
  }

  /** Starts a transaction that the caller ends. Throws ENOSPC if too many are open. */
  begin(): LocalTransaction {
    const t = this.server.startTransaction(this.connection);
    if (typeof t === 'number') throw this.error(t, 'begin', '');
    return new LocalTransaction(this.server, this.connection, t);
  }

  /** Runs `body` in a transaction and commits it. An exception in `body` aborts the transaction. */
  transact<T>(body: (view: LocalView) => T): T {
    for (;;) {
      const t = this.begin();
      let result: T;
      try {
        result = body(t);
      } catch (error) {
        t.abort();
        throw error;
      }
      if (t.commit()) return result;
    }
  }

  /** Closes this client and drops its watches and transactions. */
  close(): void {
    this.server.disconnect(this.connection);
  }
}
