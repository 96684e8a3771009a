/**
 * The console's back end: moves bytes between the guest's shared console page and a terminal.
 *
 * Invariant: the indices in the page belong to the guest as much as to us, so they are read once a turn, and a
 * distance larger than the ring is a broken guest (nothing is moved), never a length.
 * Output that the terminal cannot take yet stays in the guest's ring: the guest waits, and nothing here grows
 * without bound. Source: xen/include/public/io/console.h; tools/console/daemon/io.c.
 */
import { bool, bytes, struct } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../records/record.js';
import {
  XENCONS_CONNECTION,
  XENCONS_IN_SIZE,
  XENCONS_OUT_SIZE,
  XENCONSOLE_CONNECTED,
  XenconsInterface,
} from '../xen/console.js';
import type { LinearMemory } from '../xen/memory.js';

/** Most typed bytes that wait for the guest to take them; more are refused, as a terminal does when it is full. */
export const INPUT_LIMIT_BYTES = 65_536;

/** What the back end needs of the guest's container. */
export interface ConsolePort {
  readonly mem: LinearMemory;
  /** Linear address of the console page. */
  readonly page: number;
  /** Says that host code writes into the page: dirty log, decoded code. */
  touch(linear: number): void;
  /** Raises the guest's console event. */
  notify(): void;
}

/** Where output goes: takes the bytes and returns false when it wants no more until `drained`. */
export type ConsoleSink = (output: Uint8Array) => boolean;

const input = [bytes, 'typed bytes that did not fit the ring yet'] as const;

export const consoleRecord = recordType(
  'CONS',
  2,
  'the console back end; the ring itself is guest memory',
  { input, owed: [bool, 'the guest has signalled output that nobody could take yet'] },
  [
    {
      version: 1,
      body: struct({ input }),
      upgrade: (old: { input: Uint8Array }) => ({ ...old, owed: true }),
    },
  ],
);

export class ConsoleBackend {
  private input: Uint8Array = new Uint8Array(0);
  private ready = true;
  /** The guest has signalled while the sink wanted nothing. */
  private owed = false;

  constructor(
    private readonly port: ConsolePort,
    private sink: ConsoleSink,
  ) {}

  /**
   * Says in the page that the ring is served: a guest that knows the field drops its output until then. Once, before the
   * guest's first instruction, without an event, so that it finds what it finds where no such field is known.
   */
  connect(): void {
    const { mem, page } = this.port;
    this.port.touch(page);
    mem.setU8(page + XENCONS_CONNECTION, XENCONSOLE_CONNECTED);
  }

  /** The guest notified us: it has written output, or taken input. */
  service(): void {
    this.pushInput();
    this.owed = !this.ready;
    if (this.ready) this.pullOutput();
  }

  /**
   * The guest goes on, here or elsewhere: what it has signalled before is done now. What it has put on the ring and
   * not signalled yet stays there, so that it cannot tell that it was stopped in between.
   */
  resume(): void {
    if (this.owed) this.service();
  }

  /** The sink takes bytes again. */
  drained(): void {
    this.ready = true;
    this.service();
  }

  /** Another terminal takes over; what is in the ring goes to it. */
  setSink(sink: ConsoleSink): void {
    this.sink = sink;
    this.drained();
  }

  /** Typed bytes for the guest. Returns how many were taken. */
  type(typed: Uint8Array): number {
    const taken = Math.min(typed.length, INPUT_LIMIT_BYTES - this.input.length);
    const joined = new Uint8Array(this.input.length + taken);
    joined.set(this.input);
    joined.set(typed.subarray(0, taken), this.input.length);
    this.input = joined;
    this.pushInput();
    return taken;
  }

  private pullOutput(): void {
    const { mem, page } = this.port;
    const cons = mem.getU32(page + XenconsInterface.out_cons);
    const prod = mem.getU32(page + XenconsInterface.out_prod);
    const size = (prod - cons) >>> 0;
    if (size === 0 || size > XENCONS_OUT_SIZE) return;
    const output = new Uint8Array(size);
    for (let i = 0; i < size; i++)
      output[i] = mem.getU8(page + XenconsInterface.out + ((cons + i) & (XENCONS_OUT_SIZE - 1)));
    this.port.touch(page);
    mem.setU32(page + XenconsInterface.out_cons, prod);
    this.ready = this.sink(output);
    this.port.notify();
  }

  private pushInput(): void {
    if (this.input.length === 0) return;
    const { mem, page } = this.port;
    const cons = mem.getU32(page + XenconsInterface.in_cons);
    const prod = mem.getU32(page + XenconsInterface.in_prod);
    const used = (prod - cons) >>> 0;
    if (used >= XENCONS_IN_SIZE) return;
    const size = Math.min(XENCONS_IN_SIZE - used, this.input.length);
    this.port.touch(page);
    for (let i = 0; i < size; i++)
      mem.setU8(page + XenconsInterface.in + ((prod + i) & (XENCONS_IN_SIZE - 1)), this.input[i]);
    mem.setU32(page + XenconsInterface.in_prod, (prod + size) >>> 0);
    this.input = this.input.subarray(size);
    this.port.notify();
  }

  save(): Uint8Array {
    return encodeRecord(consoleRecord, { input: this.input, owed: this.owed });
  }

  restore(record: Uint8Array): void {
    const saved = decodeRecord(consoleRecord, decodeRaw(record));
    this.input = saved.input;
    this.owed = saved.owed;
  }
}
