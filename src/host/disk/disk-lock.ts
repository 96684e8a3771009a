/**
 * Makes sure that only one host uses a disk at a time: an flock on the open file, exclusive for a writable disk and
 * shared for a read-only one. The kernel releases it when the process dies, for whatever reason. The lock holds
 * between hosts if the file system carries locks, as NFS and every cluster file system does.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { flock } from '../../os/flock.js';

export class DiskLock {
  private fd = -1;
  /**
   * The file, opened a second time and not locked. It is kept for taking the lock again, because the file may belong
   * to another user by then.
   */
  private spare = -1;

  private constructor(
    private readonly path: string,
    private readonly shared: boolean,
  ) {}

  /** Locks the file at `path`. Rejects with a message for the user. */
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
      // The open file is kept for the next attempt.
      this.spare = fd;
      throw new Error(`disk ${this.path}: another guest, here or on another host, has it open`);
    }
    this.fd = fd;
    try {
      this.spare = this.open();
    } catch {
      // Without the second open file the lock can be taken this time, but perhaps not again.
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
