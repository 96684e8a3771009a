/**
 * One host at a time has a disk: a lock (flock) on the open file, exclusive for a disk that is written, shared for a
 * read-only one. The kernel gives it up when the process dies, however it dies; where the file system carries locks
 * (NFS, and every cluster file system), it holds between hosts.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { flock } from '../../../os/flock.js';

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
    let outcome: 'locked' | 'taken';
    try {
      outcome = await flock(fd, this.shared);
    } catch (error) {
      closeSync(fd);
      throw new Error(`disk ${this.path}: cannot be locked: ${(error as Error).message}`);
    }
    if (outcome === 'taken') {
      // Kept for the next attempt.
      this.spare = fd;
      throw new Error(`disk ${this.path}: another guest, here or on another host, has it open`);
    }
    this.fd = fd;
    try {
      this.spare = this.open();
    } catch {
      // It can be locked this once.
    }
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
