/**
 * The files of a process: it reads the host's files, its standard output and error are collected, and its standard
 * input is a string.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';

export interface OpenFile {
  readonly path: string;
  readonly content: Uint8Array;
  readonly folder: readonly string[] | undefined;
  position: number;
}

export const ENOENT = -2;
export const EBADF = -9;
export const EACCES = -13;
export const ENOTDIR = -20;
export const EINVAL = -22;
export const ENOTTY = -25;
export const ESPIPE = -29;
export const EROFS = -30;
export const ENOSYS = -38;

const WRITING = 3;
const STANDARD_FILES = 3;

export class Files {
  readonly #open: (OpenFile | undefined)[];
  readonly output: Uint8Array[] = [];
  readonly errors: Uint8Array[] = [];

  constructor(
    readonly folder: string,
    input: Uint8Array,
  ) {
    const standard = (path: string, content: Uint8Array): OpenFile => ({
      path,
      content,
      folder: undefined,
      position: 0,
    });
    this.#open = [
      standard('stdin', input),
      standard('stdout', new Uint8Array()),
      standard('stderr', new Uint8Array()),
    ];
  }

  path(name: string): string {
    return resolve(this.folder, name);
  }

  open(name: string, flags: number): number {
    const path = this.path(name);
    if (path === '/dev/tty' || path.startsWith('/proc/') || path.startsWith('/sys/')) return ENOENT;
    let stats: Stats;
    try {
      stats = statSync(path);
    } catch {
      return (flags & WRITING) === 0 ? ENOENT : EROFS;
    }
    if ((flags & WRITING) !== 0 && path !== '/dev/null') return EROFS;
    const folder = stats.isDirectory() ? ['.', '..', ...readdirSync(path).sort()] : undefined;
    const content = stats.isFile() ? new Uint8Array(readFileSync(path)) : new Uint8Array();
    return this.#add({ path, content, folder, position: 0 }, STANDARD_FILES);
  }

  get(fd: number): OpenFile | undefined {
    return this.#open[fd];
  }

  close(fd: number): number {
    if (this.#open[fd] === undefined) return EBADF;
    this.#open[fd] = undefined;
    return 0;
  }

  /** Does dup, dup2 and F_DUPFD: duplicates to the lowest free number from `least` on, or to exactly `exactly`. */
  duplicate(fd: number, least: number, exactly?: number): number {
    const file = this.#open[fd];
    if (file === undefined) return EBADF;
    if (exactly === undefined) return this.#add(file, least);
    this.#open[exactly] = file;
    return exactly;
  }

  write(fd: number, bytes: Uint8Array): number {
    const file = this.#open[fd];
    if (file === undefined) return EBADF;
    if (file.path === 'stdout') this.output.push(bytes);
    else if (file.path === 'stderr') this.errors.push(bytes);
    else if (file.path !== '/dev/null') return EBADF;
    return bytes.length;
  }

  /** Returns the status of a file by name, following links or not; undefined if there is no such file. */
  status(name: string, follow: boolean): Stats | undefined {
    try {
      return follow ? statSync(this.path(name)) : lstatSync(this.path(name));
    } catch {
      return undefined;
    }
  }

  link(name: string): string | undefined {
    try {
      return readlinkSync(this.path(name));
    } catch {
      return undefined;
    }
  }

  #add(file: OpenFile, least: number): number {
    let fd = least;
    while (this.#open[fd] !== undefined) fd++;
    this.#open[fd] = file;
    return fd;
  }
}

/** Everything that was written to standard output, as text. */
export const text = (parts: readonly Uint8Array[]): string => Buffer.concat(parts).toString('utf8');
