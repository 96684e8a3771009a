/**
 * A learning switch: which port an address was last seen on, and where a frame goes.
 * Invariant: a frame never leaves on the port that it came from; a port that does not keep up loses its own frames
 * and nobody else's; the table has a limit for each port, so that one port cannot push the others out.
 * Source: IEEE 802.1Q, 8.7 and 8.8 (learning and ageing).
 */
import type { Frame } from './frame.js';
import { BROADCAST, isGroup, readMac } from './mac.js';
import { finishFrame } from './segment.js';

/** An address that was not seen for so long is forgotten, ms (802.1Q's default). */
const AGE_MS = 300_000;
/** Addresses that are known behind one port. */
const MAX_PER_PORT = 1024;

/** One port, as the switch sees it: where frames leave. */
export interface SwitchPort {
  readonly name: string;
  /** Whether frames may leave with work undone (frame.ts). */
  readonly offloads: boolean;
  /** False while so much waits there that frames are dropped. */
  readonly writable: boolean;
  send(frame: Frame): void;
  flush(): void;
}

interface Entry {
  port: SwitchPort;
  seen: number;
}
export interface PortCounters {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  dropped: number;
  addresses: number;
}

export class LearningSwitch {
  private readonly table = new Map<number, Entry>();
  private readonly counters = new Map<SwitchPort, PortCounters>();

  /** `now`: milliseconds, never backwards. */
  constructor(private readonly now: () => number) {}

  get ports(): ReadonlyMap<SwitchPort, PortCounters> {
    return this.counters;
  }

  attach(port: SwitchPort): void {
    this.counters.set(port, { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, dropped: 0, addresses: 0 });
  }

  detach(port: SwitchPort): void {
    this.counters.delete(port);
    for (const [mac, entry] of this.table) if (entry.port === port) this.table.delete(mac);
  }

  /** Port behind which an address is, if it is known. */
  where(mac: number): SwitchPort | undefined {
    return this.table.get(mac)?.port;
  }

  /** A frame came in on `from`. Its bytes are good during the call, and may be changed. */
  forward(from: SwitchPort, frame: Frame): void {
    const b = frame.bytes;
    const counters = this.counters.get(from);
    if (counters === undefined || isGroup(b, 6)) return;
    counters.rxFrames++;
    counters.rxBytes += b.length;
    this.learn(readMac(b, 6), from, counters);
    const to = readMac(b, 0);
    const entry = to === BROADCAST || isGroup(b, 0) ? undefined : this.table.get(to);
    if (entry !== undefined) {
      if (entry.port !== from) this.out(entry.port, frame);
      return;
    }
    // Ports that take work over come first: doing the work changes the frame.
    for (const port of this.counters.keys()) if (port !== from && port.offloads) this.out(port, frame);
    for (const port of this.counters.keys()) if (port !== from && !port.offloads) this.out(port, frame);
  }

  private out(port: SwitchPort, frame: Frame): void {
    const counters = this.counters.get(port) as PortCounters;
    if (!port.writable) {
      counters.dropped++;
      return;
    }
    counters.txFrames++;
    counters.txBytes += frame.bytes.length;
    if (port.offloads) port.send(frame);
    else finishFrame(frame, (f) => port.send(f));
  }

  private learn(mac: number, port: SwitchPort, counters: PortCounters): void {
    const entry = this.table.get(mac);
    if (entry === undefined) {
      if (counters.addresses >= MAX_PER_PORT) return;
      this.table.set(mac, { port, seen: this.now() });
      counters.addresses++;
    } else {
      entry.seen = this.now();
      if (entry.port === port) return;
      if (counters.addresses >= MAX_PER_PORT) return;
      const before = this.counters.get(entry.port);
      if (before !== undefined) before.addresses--;
      counters.addresses++;
      entry.port = port;
    }
  }

  /** All frames of a batch are in: lets what waits leave. */
  flush(): void {
    for (const port of this.counters.keys()) port.flush();
  }

  /** Forgets what was not seen lately; to be called now and then. */
  age(): void {
    const oldest = this.now() - AGE_MS;
    for (const [mac, { port, seen }] of this.table) {
      if (seen >= oldest) continue;
      this.table.delete(mac);
      const counters = this.counters.get(port);
      if (counters !== undefined) counters.addresses--;
    }
  }
}
