/**
 * The children of one node: a persistent map (it is never changed in place) from name to T. It keeps the order of
 * insertion, which is the order of DIRECTORY replies. Few children are stored in two plain arrays, many in a hash
 * array mapped trie, so that a change among 100 000 siblings costs as much as among 100.
 */

/** With more children than this the trie is used; below half of it the arrays are used again. */
const FEW = 16;

export interface Children<T> {
  readonly size: number;
  /** Total length of the names in bytes, each with its terminating NUL. This is the length of the DIRECTORY reply. */
  readonly bytes: number;
  get(name: string): T | undefined;
  /** Returns a map in which `name` has this value: at its old position if it exists, otherwise at the end. */
  with(name: string, value: T): Children<T>;
  without(name: string): Children<T>;
  names(): readonly string[];
  /** All names, each followed by a NUL. It is computed once. */
  list(): string;
}

class Few<T> implements Children<T> {
  #list: string | undefined;
  constructor(
    readonly bytes: number,
    private readonly keys: readonly string[],
    private readonly values: readonly T[],
  ) {}
  get size(): number {
    return this.keys.length;
  }
  get(name: string): T | undefined {
    const keys = this.keys;
    for (let i = 0; i < keys.length; i++) if (keys[i] === name) return this.values[i];
    return undefined;
  }
  with(name: string, value: T): Children<T> {
    const i = this.keys.indexOf(name);
    if (i >= 0) {
      const values = this.values.slice();
      values[i] = value;
      const changed = new Few(this.bytes, this.keys, values);
      changed.#list = this.#list;
      return changed;
    }
    if (this.keys.length < FEW)
      return new Few(this.bytes + name.length + 1, [...this.keys, name], [...this.values, value]);
    let many: Children<T> = new Many<T>(0, 0, 0, undefined);
    for (let k = 0; k < this.keys.length; k++) many = many.with(this.keys[k], this.values[k]);
    return many.with(name, value);
  }
  without(name: string): Children<T> {
    const i = this.keys.indexOf(name);
    if (i < 0) return this;
    if (this.keys.length === 1) return noChildren();
    return new Few(
      this.bytes - name.length - 1,
      this.keys.filter((_, k) => k !== i),
      this.values.filter((_, k) => k !== i),
    );
  }
  names(): readonly string[] {
    return this.keys;
  }
  list(): string {
    this.#list ??= this.keys.map((name) => `${name}\0`).join('');
    return this.#list;
  }
}

const EMPTY = new Few<never>(0, [], []);
export const noChildren = <T>(): Children<T> => EMPTY as Children<T>;

interface Entry<T> {
  readonly name: string;
  readonly hash: number;
  /** Position in the order of insertion. Gaps that removals leave are not closed. */
  readonly order: number;
  readonly value: T;
}

/**
 * A branch of the trie. `bitmap` has one bit for each slot in use. At full depth it is a bucket of entries with equal
 * hashes.
 */
interface Branch<T> {
  readonly bitmap: number;
  readonly slots: readonly (Entry<T> | Branch<T>)[];
}

const isBranch = <T>(slot: Entry<T> | Branch<T>): slot is Branch<T> => 'slots' in slot;

/** 32-bit FNV-1a over the characters of a name, with a final mixing step. */
function hashOf(name: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return h ^ (h >>> 15);
}

function popcount(x: number): number {
  let v = x - ((x >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

const BUCKET_SHIFT = 35;

function find<T>(top: Branch<T>, name: string, hash: number): Entry<T> | undefined {
  let branch = top;
  for (let shift = 0; shift < BUCKET_SHIFT; shift += 5) {
    const bit = 1 << ((hash >>> shift) & 31);
    if ((branch.bitmap & bit) === 0) return undefined;
    const slot = branch.slots[popcount(branch.bitmap & (bit - 1))];
    if (!isBranch(slot)) return slot.name === name ? slot : undefined;
    branch = slot;
  }
  return (branch.slots as readonly Entry<T>[]).find((entry) => entry.name === name);
}

function insert<T>(branch: Branch<T> | undefined, entry: Entry<T>, shift: number): Branch<T> {
  if (shift === BUCKET_SHIFT) {
    const others = (branch?.slots ?? []).filter((slot) => (slot as Entry<T>).name !== entry.name);
    return { bitmap: 0, slots: [...others, entry] };
  }
  const bit = 1 << ((entry.hash >>> shift) & 31);
  if (branch === undefined) return { bitmap: bit, slots: [entry] };
  const at = popcount(branch.bitmap & (bit - 1));
  const slots = branch.slots.slice();
  if ((branch.bitmap & bit) === 0) {
    slots.splice(at, 0, entry);
    return { bitmap: branch.bitmap | bit, slots };
  }
  const slot = slots[at];
  if (isBranch(slot)) slots[at] = insert(slot, entry, shift + 5);
  else if (slot.name === entry.name) slots[at] = entry;
  else slots[at] = insert(insert<T>(undefined, slot, shift + 5), entry, shift + 5);
  return { bitmap: branch.bitmap, slots };
}

function remove<T>(branch: Branch<T>, name: string, hash: number, shift: number): Branch<T> | undefined {
  if (shift === BUCKET_SHIFT) {
    const slots = branch.slots.filter((slot) => (slot as Entry<T>).name !== name);
    return slots.length === 0 ? undefined : { bitmap: 0, slots };
  }
  const bit = 1 << ((hash >>> shift) & 31);
  const at = popcount(branch.bitmap & (bit - 1));
  const slot = branch.slots[at];
  const left = isBranch(slot) ? remove(slot, name, hash, shift + 5) : undefined;
  const slots = branch.slots.slice();
  if (left !== undefined) {
    slots[at] = left;
    return { bitmap: branch.bitmap, slots };
  }
  slots.splice(at, 1);
  return slots.length === 0 ? undefined : { bitmap: branch.bitmap & ~bit, slots };
}

class Many<T> implements Children<T> {
  #names: readonly string[] | undefined;
  #list: string | undefined;
  constructor(
    readonly size: number,
    readonly bytes: number,
    private readonly nextOrder: number,
    private readonly top: Branch<T> | undefined,
  ) {}
  get(name: string): T | undefined {
    return this.top === undefined ? undefined : find(this.top, name, hashOf(name))?.value;
  }
  with(name: string, value: T): Children<T> {
    const hash = hashOf(name);
    const old = this.top === undefined ? undefined : find(this.top, name, hash);
    const order = old?.order ?? this.nextOrder;
    const top = insert(this.top, { name, hash, order, value }, 0);
    if (old === undefined)
      return new Many(this.size + 1, this.bytes + name.length + 1, this.nextOrder + 1, top);
    const changed = new Many(this.size, this.bytes, this.nextOrder, top);
    changed.#names = this.#names;
    changed.#list = this.#list;
    return changed;
  }
  without(name: string): Children<T> {
    const hash = hashOf(name);
    if (this.top === undefined || find(this.top, name, hash) === undefined) return this;
    const top = remove(this.top, name, hash, 0);
    const left = new Many(this.size - 1, this.bytes - name.length - 1, this.nextOrder, top);
    if (left.size > FEW / 2) return left;
    const names = left.names();
    return new Few(
      left.bytes,
      names,
      names.map((key) => left.get(key) as T),
    );
  }
  names(): readonly string[] {
    if (this.#names === undefined) {
      const all: Entry<T>[] = [];
      const gather = (branch: Branch<T>): void => {
        for (const slot of branch.slots) {
          if (isBranch(slot)) gather(slot);
          else all.push(slot);
        }
      };
      if (this.top !== undefined) gather(this.top);
      all.sort((a, b) => a.order - b.order);
      this.#names = all.map((entry) => entry.name);
    }
    return this.#names;
  }
  list(): string {
    this.#list ??= this.names()
      .map((name) => `${name}\0`)
      .join('');
    return this.#list;
  }
}
