/**
 * Writes the lines of a log to a descriptor. Invariant: if a log cannot be written (its disk is full, its reader is
 * gone or too slow, it has reached its maximum size), that does not disturb the process which writes it; lines are
 * lost, and the next line that is written says how many. Control characters in a line are escaped, so that a terminal
 * shows them and does not obey them.
 */
import fs from 'node:fs';
import { printableJson } from '../protocol/printable.js';

/** A guest's process stops writing to a log of this size, bytes; its daemon cuts it (process-log.ts). */
const MOST_LOG_BYTES = 4 << 20;

export class LogOutput {
  private lost = 0;
  /** Only a part of the last line was written. */
  private torn = false;

  constructor(
    private readonly descriptor: number,
    /** As writeSync of node:fs. */
    private readonly writeSync: (
      descriptor: number,
      bytes: Uint8Array,
      from: number,
    ) => number = fs.writeSync,
    /** True if nothing more may be written now. */
    private readonly full: () => boolean = () => false,
  ) {}

  /** Writes whole lines, each with its line end. */
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

/** Writes a line to the log of this process. */
export const logLine = (line: string): void => output.write(`${line}\n`);
