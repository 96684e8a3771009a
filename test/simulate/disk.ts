/**
 * The disk of a simulated host: all readers see at once what is written, but it is on the medium only when it was
 * synced. When the power fails, any beginning of what was not synced is kept: of a file's contents, and of the changes
 * to a directory's names.
 */
import type { FileFacts, Files } from '../../src/os/files.js';
import type { Dice } from './time.js';

export interface Inode {
  readonly ino: number;
  text: string;
  /** The part that is on the medium. */
  synced: string;
  size: number;
}

type NameChange = { readonly name: string; readonly inode: Inode | undefined };

interface Directory {
  names: Map<string, Inode>;
  /** The state on the medium, and what was done since. */
  synced: Map<string, Inode>;
  changes: NameChange[];
}

const failure = (code: string, path: string): Error => Object.assign(new Error(`${code}: ${path}`), { code });

const split = (path: string): [string, string] => {
  const at = path.lastIndexOf('/');
  return [path.slice(0, at), path.slice(at + 1)];
};

interface Open {
  readonly inode: Inode | undefined;
  readonly directory: Directory | undefined;
}

export class Disk {
  full = false;
  private readonly directories = new Map<string, Directory>();
  private readonly open = new Map<number, Open>();
  private lastInode = 0;
  private lastFile = 0;

  constructor() {
    this.makeDirectory('/images');
  }

  // --- names ---

  private directory(path: string): Directory {
    const found = this.directories.get(path);
    if (found === undefined) throw failure('ENOENT', path);
    return found;
  }
  find(path: string): Inode | undefined {
    const [directory, name] = split(path);
    return this.directories.get(directory)?.names.get(name);
  }
  private get(path: string): Inode {
    const found = this.find(path);
    if (found === undefined) throw failure('ENOENT', path);
    return found;
  }
  private name(path: string, inode: Inode | undefined): void {
    const [at, name] = split(path);
    const directory = this.directory(at);
    if (inode === undefined) directory.names.delete(name);
    else directory.names.set(name, inode);
    directory.changes.push({ name, inode });
  }
  private room(path: string): void {
    if (this.full) throw failure('ENOSPC', path);
  }

  makeDirectory(path: string): void {
    for (let at = path; at !== ''; [at] = split(at)) {
      if (this.directories.has(at)) return;
      this.room(path);
      // Directories are on the medium at once: nothing here depends on more.
      this.directories.set(at, { names: new Map(), synced: new Map(), changes: [] });
    }
  }

  make(path: string, exclusive: boolean): Inode {
    const there = this.find(path);
    if (there !== undefined && exclusive) throw failure('EEXIST', path);
    this.room(path);
    if (there !== undefined) {
      there.text = '';
      there.size = 0;
      return there;
    }
    const inode: Inode = { ino: ++this.lastInode, text: '', synced: '', size: 0 };
    this.name(path, inode);
    return inode;
  }

  /** Makes a file as a whole, also on the medium and on a full disk. */
  put(path: string, text: string): void {
    const { full } = this;
    this.full = false;
    const inode = this.find(path) ?? this.make(path, true);
    this.full = full;
    this.fill(inode, text);
    this.syncDirectory(this.directory(split(path)[0]));
  }
  /** Removes a file, also from the medium. */
  drop(path: string): void {
    this.remove(path);
    this.syncDirectory(this.directory(split(path)[0]));
  }
  fill(inode: Inode, text: string): void {
    inode.text = text;
    inode.synced = text;
    inode.size = Math.max(inode.size, text.length);
  }

  list(path: string): string[] {
    const { names } = this.directory(path);
    const below = [...this.directories.keys()]
      .filter((one) => one.startsWith(`${path}/`) && !one.includes('/', path.length + 1))
      .map((one) => one.slice(path.length + 1));
    return [...names.keys(), ...below];
  }
  remove(path: string): void {
    if (this.find(path) !== undefined) this.name(path, undefined);
  }
  removeTree(path: string): void {
    this.remove(path);
    for (const one of this.directories.keys())
      if (one === path || one.startsWith(`${path}/`)) this.directories.delete(one);
  }
  exists(path: string): boolean {
    return this.directories.has(path) || this.find(path) !== undefined;
  }
  rename(from: string, to: string): void {
    const inode = this.get(from);
    if (this.directories.has(to)) throw failure('EISDIR', to);
    this.name(to, inode);
    this.name(from, undefined);
  }

  link(path: string, inode: Inode): void {
    if (this.find(path) !== undefined) throw failure('EEXIST', path);
    this.room(path);
    this.name(path, inode);
  }

  /** Sets which names of a directory are on the medium from now on. */
  syncDirectory(directory: Directory): void {
    if (directory.changes.length === 0) return;
    directory.changes = [];
    directory.synced = new Map(directory.names);
  }

  // --- for whoever has opened it ---

  openFile(path: string, how: 'r' | 'w' | 'wx'): number {
    const directory = this.directories.get(path);
    if (directory === undefined && how === 'r') this.get(path);
    const inode =
      directory !== undefined ? undefined : how === 'r' ? this.get(path) : this.make(path, how === 'wx');
    this.open.set(++this.lastFile, { inode, directory });
    return this.lastFile;
  }
  write(file: number, text: string): void {
    const { inode } = this.open.get(file)!;
    this.room('write');
    inode!.text += text;
    inode!.size = Math.max(inode!.size, inode!.text.length);
  }
  sync(file: number): void {
    const { inode, directory } = this.open.get(file)!;
    if (directory !== undefined) this.syncDirectory(directory);
    if (inode !== undefined) inode.synced = inode.text;
  }
  close(file: number): void {
    this.open.delete(file);
  }
  facts(path: string): FileFacts | undefined {
    if (this.directories.has(path)) return { size: 0, dev: 1, ino: 0, isFile: false };
    const inode = this.find(path);
    return inode && { size: inode.size, dev: 1, ino: inode.ino, isFile: true };
  }

  // --- faults ---

  /** The power fails. */
  crash(dice: Dice): void {
    this.open.clear();
    const torn = new Set<Inode>();
    for (const directory of this.directories.values()) {
      const kept = dice.below(directory.changes.length + 1);
      const names = new Map(directory.synced);
      for (const { name, inode } of directory.changes.slice(0, kept)) {
        if (inode === undefined) names.delete(name);
        else names.set(name, inode);
      }
      directory.names = names;
      directory.synced = new Map(names);
      directory.changes = [];
      for (const inode of names.values()) if (inode.text !== inode.synced) torn.add(inode);
    }
    for (const inode of torn) {
      // The file has its old contents, or any beginning of the new ones.
      const left = dice.below(4);
      if (left === 1) inode.synced = '';
      else if (left > 1) inode.synced = inode.text.slice(0, dice.below(inode.text.length + 1));
      inode.text = inode.synced;
    }
  }

  /** All files, for checks. */
  all(): Map<string, Inode> {
    const found = new Map<string, Inode>();
    for (const [path, { names }] of this.directories)
      for (const [name, inode] of names) found.set(`${path}/${name}`, inode);
    return found;
  }
  directoriesBelow(path: string): string[] {
    return [...this.directories.keys()].filter((one) => one.startsWith(`${path}/`));
  }
}

/** A process's access to the disk: `step` is called before each change, and may throw. */
export function filesOf(disk: Disk, step: () => void, look: () => void, inside = ''): Files {
  const at = (path: string): string =>
    path.startsWith('/') ? path : path === '.' ? inside : `${inside}/${path}`;
  return {
    open(path, how) {
      if (how === 'r') look();
      else step();
      return disk.openFile(at(path), how);
    },
    write(file, text) {
      step();
      disk.write(file, text);
    },
    sync(file) {
      step();
      disk.sync(file);
    },
    close(file) {
      disk.close(file);
    },
    read(path) {
      look();
      const found = disk.find(at(path));
      if (found === undefined) throw failure('ENOENT', path);
      return found.text;
    },
    readForeign(path, most) {
      look();
      const text = disk.find(at(path))?.text ?? '';
      return text.length > most ? '' : text;
    },
    rename(from, to) {
      step();
      disk.rename(at(from), at(to));
    },
    link(path, name) {
      step();
      const inode = disk.find(at(path));
      if (inode === undefined) throw failure('ENOENT', path);
      disk.link(at(name), inode);
    },
    remove(path) {
      step();
      disk.remove(at(path));
    },
    removeTree(path) {
      step();
      disk.removeTree(at(path));
    },
    exists(path) {
      look();
      return disk.exists(at(path));
    },
    facts(path) {
      look();
      return disk.facts(at(path));
    },
    list(path) {
      look();
      return disk.list(at(path));
    },
    makeDirectory(path) {
      step();
      disk.makeDirectory(at(path));
    },
    makePassable(path) {
      step();
      disk.makeDirectory(at(path));
    },
    realPath(path) {
      look();
      if (!disk.exists(at(path))) throw failure('ENOENT', path);
      return at(path);
    },
    async create(path, _mode, bytes) {
      step();
      disk.make(at(path), true).size = bytes;
    },
  };
}
