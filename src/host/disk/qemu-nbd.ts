/**
 * Images in QEMU's formats (qcow2 and others). For each image we start a `qemu-nbd` of our own, on a unix socket that
 * only we know. It holds QEMU's own lock on the image, and it ends when our connection closes, for whatever reason.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { PROGRAM_ENV } from '../../os/program-environment.js';
import { NbdLink } from './nbd-link.js';

const START_MS = 10_000;
/**
 * How long the NBD link waits for an answer, in ms. It is longer than START_MS, so that the message of a failed start
 * comes first.
 */
const ANSWER_MS = START_MS + 1000;
/** QEMU's names for formats that xl calls differently. */
const FORMATS: Readonly<Record<string, string>> = { vhd: 'vpc' };

/** Creates an empty image of `bytes` bytes at `path`. Rejects with qemu-img's message. */
export async function createQemuImage(path: string, format: string, bytes: number): Promise<void> {
  const args = ['create', '-q', '-f', FORMATS[format] ?? format, path, String(bytes)];
  await promisify(execFile)('qemu-img', args, { env: PROGRAM_ENV }).catch((error: NodeJS.ErrnoException) => {
    throw new Error(
      error.code === 'ENOENT' ? 'qemu-img is not installed (Debian: qemu-utils)' : error.message.trim(),
    );
  });
}

export interface QemuImage {
  readonly path: string;
  readonly format: string;
  readonly readOnly: boolean;
  readonly discard: boolean;
}

/** How long it may take to end by itself, and after each signal, in ms. */
const STOP_MS = 1_500;
/** How long a server that has dropped a connection may take to end, in ms. */
const LAST_WORDS_MS = 1000;

class QemuNbd {
  private child: ChildProcess | undefined;
  private ended: Promise<void> | undefined;
  private readonly directory = mkdtempSync(join(tmpdir(), 'stillpoint-nbd-'));
  private errors = '';

  constructor(private readonly image: QemuImage) {}

  private start(): void {
    const { path, format, readOnly, discard } = this.image;
    // One connection is for the guest, the other for copying the disk.
    const args = [`--socket=${fromRoot(this.socket)}`, `--format=${FORMATS[format] ?? format}`, '--shared=2'];
    if (discard) args.push('--discard=unmap');
    if (readOnly) args.push('--read-only');
    this.errors = '';
    const child = spawn('qemu-nbd', [...args, '--', path], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: PROGRAM_ENV,
    });
    this.child = child;
    child.stderr?.on('data', (bytes) => {
      this.errors = (this.errors + bytes).slice(-1000);
    });
    this.ended = new Promise((resolve) => {
      child.once('error', (error: NodeJS.ErrnoException) => {
        this.errors =
          error.code === 'ENOENT'
            ? 'qemu-nbd, which reads this format, is not installed (Debian: qemu-utils)'
            : error.message;
        this.child = undefined;
        resolve();
      });
      child.once('exit', () => {
        if (this.child === child) this.child = undefined;
        resolve();
      });
    });
    child.unref();
  }

  private get socket(): string {
    return join(this.directory, 'socket');
  }

  /** Opens a connection, and starts the program if it does not run. */
  async connect(): Promise<Duplex> {
    if (this.child === undefined) {
      rmSync(this.socket, { force: true });
      this.start();
    }
    const deadline = performance.now() + START_MS;
    for (;;) {
      if (existsSync(this.socket)) {
        const stream = net.connect({ path: this.socket });
        try {
          await once(stream, 'connect');
          return stream;
        } catch {
          stream.destroy();
        }
      }
      if (this.child === undefined)
        throw new Error(this.errors.trim().replace(/^qemu-nbd: /, '') || 'qemu-nbd ended');
      if (performance.now() > deadline) throw new Error('qemu-nbd does not start');
      await new Promise((done) => setTimeout(done, 10));
    }
  }

  /**
   * Returns the program's error output if it has ended or is about to end. It says more than the dropped connection
   * does.
   */
  async lastWords(): Promise<string> {
    await Promise.race([this.ended, new Promise((done) => setTimeout(done, LAST_WORDS_MS).unref())]);
    return this.child === undefined ? this.errors.trim().replace(/^qemu-nbd: /, '') : '';
  }

  /**
   * To be called after the connection was closed. When it resolves, the program has written everything and has let go
   * of the image. If it does not end by itself, it is sent signals; but it is never killed while it may hold data
   * that is not in the image yet (`flushed` is false). In that case the promise rejects.
   */
  async stop(flushed: boolean): Promise<void> {
    const { child, ended } = this;
    if (child === undefined || ended === undefined) return;
    for (const signal of [undefined, 'SIGTERM', ...(flushed ? ['SIGKILL' as const] : [])] as const) {
      if (signal !== undefined) child.kill(signal);
      await Promise.race([ended, new Promise((done) => setTimeout(done, STOP_MS))]);
      if (this.child !== child) return;
    }
    throw new Error(`disk ${this.image.path}: its qemu-nbd (process ${child.pid}) does not end`);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/**
 * qemu-nbd accepts only absolute socket paths, and a socket's path must be short, so a relative one goes through the
 * working directory that both processes share.
 */
const fromRoot = (path: string): string => (isAbsolute(path) ? path : join('/proc/self/cwd', path));

export async function openQemuImage(image: QemuImage): Promise<NbdLink> {
  const server = new QemuNbd(image);
  const name = `${image.path} (${image.format})`;
  try {
    return await NbdLink.open({
      name,
      exportName: '',
      readOnly: image.readOnly,
      discard: image.discard,
      lostS: Number.POSITIVE_INFINITY,
      answerMs: ANSWER_MS,
      connect: () => server.connect(),
      secure: undefined,
      released: (flushed) => server.stop(flushed),
      closed: () => server.remove(),
    });
  } catch (error) {
    const words = await server.lastWords();
    throw words === '' ? error : new Error(`disk ${name}: ${words}`);
  }
}
