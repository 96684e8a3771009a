/**
 * The terminal at which `run` and `console` sit: raw keys to the guest, the guest's bytes to the screen.
 * On a terminal, Ctrl-] leaves, as in `xl console`; on pipes every byte is the guest's. A PV console has no size:
 * a guest that wants to know asks the terminal itself, as over a serial line (`resize`), and the answer is typed.
 * Invariant: however the process ends, the terminal is left as it was found.
 */
import { spawnSync } from 'node:child_process';
import type { ReadStream, WriteStream } from 'node:tty';

const ESCAPE = 0x1d; // Ctrl-]
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

export interface TerminalHandlers {
  /** Typed bytes; returns how many were taken (the rest is offered again later). */
  onInput(bytes: Uint8Array): number;
  /** Ctrl-] was typed. */
  onEscape(): void;
  /** Standard input ended (pipes only). */
  onEnd?(): void;
  /** Output can go on after write() returned false. */
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

  /** Shows the guest's bytes; false when the screen is behind and `onDrain` will tell when to go on. */
  write(bytes: Uint8Array): boolean {
    if (this.broken) return true;
    return this.output.write(bytes);
  }

  /** Gives the terminal back. */
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

  /** Node's raw mode still turns "\n" into "\r\n" on output; stty ends that. Node's way back restores it too. */
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

  /** Gives bytes to the guest; what it has no room for stops the input until it has. */
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
  /** A signal that ends the process gets the terminal back first. */
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.close();
    process.kill(process.pid, signal);
  };
  /** The reader of our output went away (a closed pipe): the guest goes on without a screen. */
  private readonly onOutputError = (): void => {
    this.broken = true;
    this.handlers.onDrain();
  };
}
