/**
 * The back end of the guest's console: it moves bytes between the guest's shared console page and a terminal.
 *
 * Invariant: the guest can write the ring's indices at any time, so each is read once per call. If the distance
 * between them is larger than the ring, the guest is broken and nothing is moved; the distance is never used as a
 * length. Output that the terminal cannot take yet stays in the guest's ring, so the guest waits and no buffer here
 * grows without bound. Source: xen/include/public/io/console.h; tools/console/daemon/io.c.
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

/** How many typed bytes may wait for the guest to take them. Further bytes are refused, as a full terminal does. */
export const INPUT_LIMIT_BYTES = 65_536;

/** The part of the guest's container that the console's back end uses. */
interface ConsolePort {
  readonly mem: LinearMemory;
  /** Linear address of the console page. */
  readonly page: number;
  /**
   * To be called after host code has written into the page at `linear`: it marks the page dirty for a migration and
   * drops code that was decoded from it.
   */
  touch(linear: number): void;
  /** Raises the guest's console event. */
  notify(): void;
}

/** Where output goes. It takes all the bytes, and returns false if it wants no more until `drained` is called. */
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
  /** True if the guest has signalled new output while the sink could not take any. */
  private owed = false;

  constructor(
    private readonly port: ConsolePort,
    private readonly sink: ConsoleSink,
  ) {}

  /**
   * Marks the connection in the page as established. A guest that knows this field discards its output until then. It
   * is called once, before the guest's first instruction and without an event, so a guest that does not know the
   * field sees no difference.
   */
  connect(): void {
    const { mem, page } = this.port;
    this.port.touch(page);
    mem.setU8(page + XENCONS_CONNECTION, XENCONSOLE_CONNECTED);
  }

  /** To be called when the guest has notified us: it has written output, or has taken input. */
  service(): void {
    this.pushInput();
    this.owed = !this.ready;
    if (this.ready) this.pullOutput();
  }

  /**
   * To be called when the guest continues, on this host or another. It serves what the guest had already signalled
   * before it was stopped. Output that the guest has put on the ring but not signalled stays there: if it were taken
   * now, the guest could tell that it had been stopped.
   */
  resume(): void {
    if (this.owed) this.service();
  }

  /** To be called when the sink can take bytes again. */
  drained(): void {
    this.ready = true;
    this.service();
  }

  /** Offers typed bytes to the guest. Returns how many were accepted. */
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
