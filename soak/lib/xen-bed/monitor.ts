// QEMU's monitor (docs/interop/qmp-intro.txt of QEMU): requests and answers are lines of JSON, one request at a time.
import net from 'node:net';
import { createInterface, type Interface } from 'node:readline';

const LOOK_MS = 100;
const LONGEST_MS = 600_000;
/** QEMU limits itself to 128 MiB a second else. */
const BYTES_PER_S = 2 ** 40;

/** What QEMU says of a migration of the whole machine. */
export interface MachineMoved {
  readonly seconds: number;
  /** How long no processor of it ran, by QEMU's own count, s. */
  readonly stoppedS: number;
  readonly bytes: number;
}

/** What is used of QEMU's answer to query-migrate: times in ms. */
interface Migration {
  readonly status?: string;
  readonly 'error-desc'?: string;
  readonly 'total-time'?: number;
  readonly downtime?: number;
  readonly ram?: { readonly transferred: number };
}

export class Monitor {
  private readonly lines: Interface;
  private waiting: { done: (value: unknown) => void; fail: (error: Error) => void } | undefined;

  private constructor(private readonly socket: net.Socket) {
    this.lines = createInterface({ input: socket });
    this.lines.on('line', (line) => {
      const { return: value, error } = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
      // All else are events.
      if (value !== undefined) this.waiting?.done(value);
      if (error !== undefined) this.waiting?.fail(new Error(`QEMU: ${error.desc}`));
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.waiting?.fail(new Error('QEMU has closed its monitor')));
  }

  static async open(path: string): Promise<Monitor> {
    const socket = await new Promise<net.Socket>((done, fail) => {
      const one = net.connect({ path }, () => done(one));
      one.once('error', fail);
    });
    const monitor = new Monitor(socket);
    await monitor.ask('qmp_capabilities');
    return monitor;
  }

  close(): void {
    this.lines.close();
    this.socket.destroy();
  }

  ask(execute: string, parameters: object = {}): Promise<unknown> {
    return new Promise((done, fail) => {
      this.waiting = { done, fail };
      this.socket.write(`${JSON.stringify({ execute, arguments: parameters })}\n`);
    });
  }

  /** Migrates the machine to the QEMU that listens at `uri`. Returns when it runs there. */
  async migrate(uri: string): Promise<MachineMoved> {
    await this.ask('migrate-set-parameters', { 'max-bandwidth': BYTES_PER_S });
    await this.ask('migrate', { uri });
    const end = Date.now() + LONGEST_MS;
    for (;;) {
      const now = (await this.ask('query-migrate')) as Migration;
      if (now.status === 'completed')
        return {
          seconds: (now['total-time'] ?? 0) / 1000,
          stoppedS: (now.downtime ?? 0) / 1000,
          bytes: now.ram?.transferred ?? 0,
        };
      if (now.status === 'failed' || now.status === 'cancelled' || Date.now() > end)
        throw new Error(`QEMU does not migrate: ${now.status}: ${now['error-desc'] ?? ''}`);
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
  }
}
