/**
 * One host at a time has a disk: a lock (flock) on the open file, exclusive for a disk that is written, shared for a
 * read-only one. The kernel gives it up when the process dies, however it dies; where the file system carries locks
 * (NFS, and every cluster file system), it holds between hosts.
 *
 * Node has no flock. The lock belongs to the open file, not to the process, so the program of that name takes and
 * releases it on our descriptor.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { PROGRAM_ENV } from './programs.js';

/** flock's exit status when somebody else has the lock. */
const CONFLICT = 9;

export class DiskLock {
  private fd = -1;
  /** The file once more, not locked: by the time the lock is wanted back, the file may be another user's. */
  private spare = -1;

  private constructor(
    private readonly path: string,
    private readonly shared: boolean,
  ) {}

  /** Takes the lock of the file at `path`. Rejects with a message for people. */
  static async take(path: string, shared: boolean): Promise<DiskLock> {
    const lock = new DiskLock(path, shared);
    try {
      await lock.retake();
    } catch (error) {
      lock.close();
      throw error;
    }
    return lock;
  }

  get held(): boolean {
    return this.fd >= 0;
  }

  async retake(): Promise<void> {
    if (this.fd >= 0) return;
    const fd = this.spare >= 0 ? this.spare : this.open();
    this.spare = -1;
    let status: number | null;
    try {
      status = await run(fd, this.shared);
    } catch (error) {
      closeSync(fd);
      throw new Error(`disk ${this.path}: cannot be locked: ${(error as Error).message}`);
    }
    if (status === 0) {
      this.fd = fd;
      try {
        this.spare = this.open();
      } catch {
        // It can be locked this once.
      }
      return;
    }
    // Kept for the next attempt.
    this.spare = fd;
    throw new Error(
      status === CONFLICT
        ? `disk ${this.path}: another guest, here or on another host, has it open`
        : `disk ${this.path}: cannot be locked (flock: status ${status})`,
    );
  }

  release(): void {
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }
  close(): void {
    this.release();
    if (this.spare >= 0) closeSync(this.spare);
    this.spare = -1;
  }

  private open(): number {
    return openSync(this.path, this.shared ? constants.O_RDONLY : constants.O_RDWR);
  }
}

function run(fd: number, shared: boolean): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const mode = shared ? '--shared' : '--exclusive';
    const args = ['--nonblock', '--conflict-exit-code', String(CONFLICT), mode, '3'];
    const child: ChildProcess = spawn('flock', args, {
      stdio: ['ignore', 'ignore', 'ignore', fd],
      env: PROGRAM_ENV,
    });
    child.on('error', reject);
    child.on('exit', (status) => resolve(status));
  });
}
