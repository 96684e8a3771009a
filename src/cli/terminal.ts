/**
 * The terminal of `run` and `console`: raw keys go to the guest, the guest's bytes to the screen. On a terminal,
 * Ctrl-] leaves, as in `xl console`; on a pipe every byte goes to the guest. A PV console has no size: a guest that
 * wants to know it asks the terminal, as over a serial line (`resize`), and the terminal's answer arrives as typed
 * bytes.
 *
 * Invariant: however the process ends, the terminal is left in the state in which it was found.
 */
import { spawnSync } from 'node:child_process';
import type { ReadStream, WriteStream } from 'node:tty';

const ESCAPE = 0x1d; // Ctrl-]
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

export interface TerminalHandlers {
  /** Takes typed bytes and returns how many were taken. The others are offered again later. */
  onInput(bytes: Uint8Array): number;
  /** Ctrl-] was typed. */
  onEscape(): void;
  /** Standard input has ended (on pipes only). */
  onEnd?(): void;
  /** Output can continue after write() has returned false. */
  onDrain(): void;
}

export class Terminal {
  private waiting: Uint8Array = new Uint8Array(0);
  private retry: NodeJS.Timeout | undefined;
  private readonly raw: boolean;
  private open = true;
  private broken = false;

  constructor(
    private readonly handlers: TerminalHandlers,
    private readonly input: NodeJS.ReadStream | ReadStream = process.stdin,
    private readonly output: NodeJS.WriteStream | WriteStream = process.stdout,
  ) {
    this.raw = input.isTTY === true;
    if (this.raw) this.makeRaw();
    input.on('data', this.onData);
    input.on('end', this.onEnd);
    input.resume();
    output.on('drain', this.onDrain);
    output.on('error', this.onOutputError);
    process.on('exit', this.restore);
    if (this.raw) for (const signal of SIGNALS) process.on(signal, this.onSignal);
  }

  /**
   * Shows the guest's bytes. Returns false if the screen is behind; `onDrain` is then called when output can
   * continue.
   */
  write(bytes: Uint8Array): boolean {
    if (this.broken) return true;
    return this.output.write(bytes);
  }

  /** Restores the terminal. */
  close(): void {
    if (!this.open) return;
    this.open = false;
    clearTimeout(this.retry);
    this.input.off('data', this.onData);
    this.input.off('end', this.onEnd);
    this.output.off('drain', this.onDrain);
    this.input.pause();
    this.restore();
    process.off('exit', this.restore);
    for (const signal of SIGNALS) process.off(signal, this.onSignal);
  }

  /**
   * In Node's raw mode "\n" is still turned into "\r\n" on output, which stty switches off. Leaving Node's raw mode
   * restores that too.
   */
  private makeRaw(): void {
    this.input.setRawMode(true);
    spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
  }

  private readonly restore = (): void => {
    if (this.raw) this.input.setRawMode(false);
  };

  private readonly onData = (chunk: Buffer | string): void => {
    let bytes: Uint8Array = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    if (this.raw) {
      const at = bytes.indexOf(ESCAPE);
      if (at >= 0) {
        this.offer(bytes.subarray(0, at));
        this.handlers.onEscape();
        return;
      }
    }
    if (this.waiting.length > 0) bytes = Buffer.concat([this.waiting, bytes]);
    this.offer(bytes);
  };

  /** Offers bytes to the guest. If it has no room for all of them, the input pauses until it has. */
  private offer(bytes: Uint8Array): void {
    const taken = this.handlers.onInput(bytes);
    this.waiting = bytes.subarray(taken);
    if (this.waiting.length > 0) {
      this.input.pause();
      this.retry = setTimeout(() => this.offer(this.waiting), 5);
    } else if (this.open) this.input.resume();
  }

  private readonly onEnd = (): void => this.handlers.onEnd?.();
  private readonly onDrain = (): void => this.handlers.onDrain();
  /** The terminal is restored before the signal ends the process. */
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.close();
    process.kill(process.pid, signal);
  };
  /** The reader of our output has gone away (a closed pipe). The guest continues without a screen. */
  private readonly onOutputError = (): void => {
    this.broken = true;
    this.handlers.onDrain();
  };
}
