/**
 * The file operations of a daemon, as an interface: of the machine's file system, or of a simulated one that loses at
 * a crash what was not synced (test/simulate/). Each call has completed when it returns; only `sync` makes something
 * durable. Errors are those of node:fs, with its codes.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import { readForeign, removeTree } from './foreign-directory.js';

export interface FileFacts {
  readonly size: number;
  readonly dev: number;
  readonly ino: number;
  readonly isFile: boolean;
}

export interface Files {
  /** `r` also opens a directory, so that it can be synced; `w` truncates the file; `wx` fails if the file exists. */
  open(path: string, how: 'r' | 'w' | 'wx', mode?: number): number;
  write(file: number, text: string): void;
  /** When this returns, what was written, or the names in a directory, are on disk. */
  sync(file: number): void;
  close(file: number): void;
  read(path: string): string;
  /** As readForeign in foreign-directory.ts. */
  readForeign(path: string, most: number, from?: 'beginning' | 'end'): string;
  rename(from: string, to: string): void;
  link(path: string, name: string): void;
  /** Does nothing if there is no such file. */
  remove(path: string): void;
  /** As removeTree in foreign-directory.ts. */
  removeTree(path: string): void;
  exists(path: string): boolean;
  /** Follows symbolic links. */
  facts(path: string): FileFacts | undefined;
  /** Names in a directory. */
  list(path: string): string[];
  /** Makes the missing directories above it too. */
  makeDirectory(path: string, mode?: number): void;
  /** The same, but guests' processes may pass through the directory without being able to list it. */
  makePassable(path: string): void;
  realPath(path: string): string;
  /**
   * Makes an empty file of `bytes` bytes; fails if the file exists. It is asynchronous because a file server may be
   * slow.
   */
  create(path: string, mode: number, bytes: number): Promise<void>;
}

export const systemFiles: Files = {
  open: (path, how, mode) => openSync(path, how, mode),
  write: (file, text) => void writeSync(file, text),
  sync: (file) => fsyncSync(file),
  close: (file) => closeSync(file),
  read: (path) => readFileSync(path, 'utf8'),
  readForeign,
  rename: (from, to) => renameSync(from, to),
  link: (path, name) => linkSync(path, name),
  remove: (path) => rmSync(path, { force: true }),
  removeTree,
  exists: (path) => existsSync(path),
  facts(path) {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats && { size: stats.size, dev: stats.dev, ino: stats.ino, isFile: stats.isFile() };
  },
  list: (path) => readdirSync(path),
  makeDirectory: (path, mode) => void mkdirSync(path, { recursive: true, mode }),
  makePassable(path) {
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o711);
  },
  realPath: (path) => realpathSync(path),
  async create(path, mode, bytes) {
    await (await open(path, 'wx', mode)).close();
    if (bytes > 0) await truncate(path, bytes);
  },
};
