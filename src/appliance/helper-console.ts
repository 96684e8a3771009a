/**
 * The domain's console, /dev/hvc0, as the guest's: bytes in both directions and nothing else. Init has switched off all
 * that a terminal would add or change. What the guest cannot take yet is offered again.
 */
import type { Readable, Writable } from 'node:stream';

const RETRY_MS = 5;

export class HelperConsole {
  private waiting: Uint8Array = new Uint8Array(0);
  private retry: NodeJS.Timeout | undefined;

  /** `type` returns how many bytes the guest has taken. */
  constructor(
    private readonly input: Readable,
    private readonly output: Writable,
    private readonly type: (bytes: Uint8Array) => number,
  ) {
    input.on('data', (chunk: Buffer) => {
      this.waiting = this.waiting.length === 0 ? chunk : Buffer.concat([this.waiting, chunk]);
      this.offer();
    });
    input.on('error', () => undefined);
    // A console that nobody reads does not end the guest.
    output.on('error', () => undefined);
  }

  write(bytes: Uint8Array): void {
    // The engine uses its memory again.
    if (this.output.writable) this.output.write(Uint8Array.from(bytes));
  }

  /** What was written has left. Nothing more is read. */
  async close(): Promise<void> {
    clearTimeout(this.retry);
    this.input.pause();
    this.input.removeAllListeners('data');
    if (this.output.writable) await new Promise<void>((resolve) => this.output.write('', () => resolve()));
  }

  private offer(): void {
    this.waiting = this.waiting.subarray(this.type(this.waiting));
    if (this.waiting.length === 0) {
      this.input.resume();
      return;
    }
    this.input.pause();
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.offer(), RETRY_MS);
  }
}
