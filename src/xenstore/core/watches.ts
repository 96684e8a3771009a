/**
 * The watches of all connections, indexed by path. Invariant: an event reaches the watchers in the order in which
 * their connections were made, and each watcher's watches in the order in which they were set, as in xenstored.
 * Source: docs/misc/xenstore.txt (WATCH), behaviour of tools/xenstored/watch.c.
 */
import type { Actor } from './permissions.js';

/** The depth of a watch without a limit. */
export const UNLIMITED = -1;

/** A connection that has watches. `order` grows with each new connection. */
export interface Watcher {
  readonly actor: Actor;
  readonly order: number;
  event(path: string, token: string): void;
}

export interface Watch {
  readonly watcher: Watcher;
  /** An absolute path, or a special name. */
  readonly path: string;
  readonly token: string;
  /** How many characters are left out at the start of the path in events: the home path, for a relative watch. */
  readonly prefix: number;
  /** How many levels below `path` are watched, or UNLIMITED. */
  readonly depth: number;
  readonly order: number;
}

/**
 * Which watches an event reaches. `subtree`: those at or above the path; `exact`: those at the path. For special
 * events, `special`: those at the name that have no depth; `below`: those with a depth at `@name/domid` or above it.
 */
type WatchMatch = 'subtree' | 'exact' | 'special' | 'below';

export class Watches {
  private readonly byPath = new Map<string, Watch[]>();
  private nextOrder = 0;

  /** How many paths are watched. */
  get size(): number {
    return this.byPath.size;
  }

  /** Bytes that are charged to the domain for a watch. */
  static bytes(watch: Watch): number {
    return watch.path.length + watch.token.length;
  }

  find(watcher: Watcher, path: string, token: string): Watch | undefined {
    return this.byPath.get(path)?.find((w) => w.watcher === watcher && w.token === token);
  }

  add(watcher: Watcher, path: string, token: string, prefix: number, depth: number): Watch {
    const watch: Watch = { watcher, path, token, prefix, depth, order: this.nextOrder++ };
    const there = this.byPath.get(path);
    if (there === undefined) this.byPath.set(path, [watch]);
    else there.push(watch);
    return watch;
  }

  delete(watch: Watch): void {
    const left = this.byPath.get(watch.path)!.filter((w) => w !== watch);
    if (left.length === 0) this.byPath.delete(watch.path);
    else this.byPath.set(watch.path, left);
  }

  /** Calls `permitted` once for each watcher concerned, and sends the event to those for which it returns true. */
  fire(path: string, match: WatchMatch, permitted: (watcher: Watcher) => boolean): void {
    const found = this.matching(path, match);
    if (found === undefined) return;
    if (found.length > 1) found.sort((a, b) => a.watcher.order - b.watcher.order || a.order - b.order);
    let watcher: Watcher | undefined;
    let pass = false;
    for (const watch of found) {
      if (watch.watcher !== watcher) {
        watcher = watch.watcher;
        pass = permitted(watcher);
      }
      if (pass) watcher.event(path.slice(watch.prefix), watch.token);
    }
  }

  private matching(path: string, match: WatchMatch): Watch[] | undefined {
    const at = this.byPath.get(path);
    if (match === 'exact') return at?.slice();
    if (match === 'special') return at?.filter((w) => w.depth === UNLIMITED);
    let found = at?.slice();
    // Walks up from the nearest ancestor. `depth` counts the levels in between.
    let depth = 1;
    for (let end = path.lastIndexOf('/'); end >= 0; end = path.lastIndexOf('/', end - 1), depth++) {
      if (end === 0 && path.length === 1) break;
      const above = this.byPath.get(end === 0 ? '/' : path.slice(0, end));
      if (above !== undefined) {
        for (const watch of above) {
          const reaches = watch.depth === UNLIMITED ? match === 'subtree' : watch.depth >= depth;
          if (reaches) (found ??= []).push(watch);
        }
      }
      if (end === 0) break;
    }
    // The root counts as an ancestor of everything, including special names; for those, only a watch without a depth
    // matches.
    if (path.charCodeAt(0) === 0x40 && match === 'subtree') {
      for (const watch of this.byPath.get('/') ?? [])
        if (watch.depth === UNLIMITED) (found ??= []).push(watch);
    }
    return found;
  }
}
