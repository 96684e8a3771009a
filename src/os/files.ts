/**
 * The files of a daemon, as an interface: of the machine's file system, or of one that a simulator plays, which loses at a
 * crash what was not synced (test/simulate/). All of it is done when a call returns; only `sync` puts something on disk.
 * Errors are those of node:fs, with its codes.
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
  /** `r` also opens a directory, to sync it; `w` makes the file empty; `wx` fails where there is one. */
  open(path: string, how: 'r' | 'w' | 'wx', mode?: number): number;
  write(file: number, text: string): void;
  /** What was written, or the names in a directory, are on disk when this returns. */
  sync(file: number): void;
  close(file: number): void;
  read(path: string): string;
  /** As readForeign in foreign-directory.ts. */
  readForeign(path: string, most: number, from?: 'beginning' | 'end'): string;
  rename(from: string, to: string): void;
  link(path: string, name: string): void;
  /** Nothing where there is no such file. */
  remove(path: string): void;
  /** As removeTree in foreign-directory.ts. */
  removeTree(path: string): void;
  exists(path: string): boolean;
  /** Symbolic links are followed. */
  facts(path: string): FileFacts | undefined;
  /** Names in a directory. */
  list(path: string): string[];
  /** With all above it. */
  makeDirectory(path: string, mode?: number): void;
  /** The same, and guests' processes may pass through it but not look. */
  makePassable(path: string): void;
  realPath(path: string): string;
  /** Makes an empty file of so many bytes; fails where there is one. What serves it may take its time. */
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
