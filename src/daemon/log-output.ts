/**
 * A log's lines on their way to a descriptor. Invariant: a log that cannot be written (its disk is full, its reader
 * is gone or too slow) does no harm to what it tells of; lines are lost, and their number is the next line that goes.
 */
import fs from 'node:fs';

export class LogOutput {
  private lost = 0;
  /** Part of a line was taken. */
  private torn = false;

  constructor(
    private readonly descriptor: number,
    /** As writeSync of node:fs. */
    private readonly writeSync: (
      descriptor: number,
      bytes: Uint8Array,
      from: number,
    ) => number = fs.writeSync,
  ) {}

  /** Writes lines, each with its end. */
  write(lines: string): void {
    const missing = this.lost === 0 ? '' : `${this.lost} lines could not be written\n`;
    const bytes = Buffer.from(`${this.torn ? '\n' : ''}${missing}${lines}`);
    let written = 0;
    try {
      while (written < bytes.length) written += this.writeSync(this.descriptor, bytes, written);
      this.lost = 0;
      this.torn = false;
    } catch {
      this.lost++;
      if (written > 0) this.torn = bytes[written - 1] !== 0x0a;
    }
  }
}

const output = new LogOutput(1);

/** A line in the log of this process. */
export const logLine = (line: string): void => output.write(`${line}\n`);
