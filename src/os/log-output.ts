/**
 * A log's lines on their way to a descriptor. Invariant: a log that cannot be written (its disk is full, its reader
 * is gone or too slow, it has grown to its limit) does no harm to what it tells of; lines are lost, and their number is
 * the next line that goes. Whatever stands in a line, a terminal shows it and obeys nothing in it.
 */
import fs from 'node:fs';
import { printableJson } from '../protocol/printable.js';

/** A guest's process writes no more into a log of this size; its daemon cuts it (process-log.ts). */
const MOST_LOG_BYTES = 4 << 20;

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
    /** Whether nothing more is to be written now. */
    private readonly full: () => boolean = () => false,
  ) {}

  /** Writes lines, each with its end. */
  write(lines: string): void {
    if (this.full()) {
      this.lost++;
      return;
    }
    const missing = this.lost === 0 ? '' : `${this.lost} lines could not be written\n`;
    const bytes = Buffer.from(`${this.torn ? '\n' : ''}${missing}${printableJson(lines)}`);
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

const OUTPUT = 1;
const output = new LogOutput(OUTPUT, fs.writeSync, () => {
  const stats = fs.fstatSync(OUTPUT);
  return stats.isFile() && stats.size > MOST_LOG_BYTES;
});

/** A line in the log of this process. */
export const logLine = (line: string): void => output.write(`${line}\n`);
