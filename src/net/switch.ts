/**
 * A learning switch: which port an address was last seen on, and where a frame goes.
 * Invariant: a frame never leaves on the port that it came from; a port that does not keep up loses its own frames
 * and nobody else's; the table has a limit for each port, so that one port cannot push the others out.
 * Source: IEEE 802.1Q, 8.7 and 8.8 (learning and ageing).
 *
 * Whose an address is: a port that says which it has (a claim) is held to that, and nobody but its like takes it over,
 * who knows the claim's token, as a guest's link on another host does after a move. A port that says nothing may use
 * any address that is nobody else's now. Only ports that lead to other switches may use all, since what is behind
 * them moves; such a port is the operator's word.
 */
import type { Frame } from './frame.js';
import { BROADCAST, isGroup, readMac } from './mac.js';
import { finishFrame } from './segment.js';
import type { SourceFilter } from './source-filter.js';

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

/** What a port may send. */
export type PortGuard =
  /** Leads to another switch, or is trusted as if it did. */
  | { readonly kind: 'open' }
  /** Has said nothing of itself. */
  | { readonly kind: 'plain' }
  | { readonly kind: 'claimed'; readonly filter: SourceFilter; readonly token: string };

const OPEN: PortGuard = { kind: 'open' };

/** The ports that have claimed an address with the same token. */
interface Claim {
  readonly token: string;
  readonly ports: Set<SwitchPort>;
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
  /** Frames from there that said they were from somebody else. */
  refused: number;
  addresses: number;
}

interface PortState extends PortCounters {
  readonly guard: PortGuard;
}

export class LearningSwitch {
  private readonly table = new Map<number, Entry>();
  private readonly counters = new Map<SwitchPort, PortState>();
  private readonly claims = new Map<number, Claim>();

  /** `now`: milliseconds, never backwards. */
  constructor(private readonly now: () => number) {}

  get ports(): ReadonlyMap<SwitchPort, PortCounters> {
    return this.counters;
  }

  attach(port: SwitchPort, guard: PortGuard = OPEN): void {
    this.counters.set(port, {
      rxFrames: 0,
      rxBytes: 0,
      txFrames: 0,
      txBytes: 0,
      dropped: 0,
      refused: 0,
      addresses: 0,
      guard,
    });
    if (guard.kind === 'claimed') this.claim(port, guard.filter.mac, guard.token);
  }

  /** Whether the address is this port's: it is the first to claim it, or knows what the first one knows. */
  private claim(port: SwitchPort, mac: number, token: string): boolean {
    const known = this.claims.get(mac);
    if (known === undefined) this.claims.set(mac, { token, ports: new Set([port]) });
    else if (known.token !== token) return false;
    else known.ports.add(port);
    return true;
  }

  detach(port: SwitchPort): void {
    this.counters.delete(port);
    for (const [mac, { ports }] of this.claims) {
      ports.delete(port);
      if (ports.size === 0) this.claims.delete(mac);
    }
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
    const source = readMac(b, 6);
    if (!this.may(from, counters.guard, source, b)) {
      counters.refused++;
      return;
    }
    counters.rxFrames++;
    counters.rxBytes += b.length;
    this.learn(source, from, counters);
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

  private may(from: SwitchPort, guard: PortGuard, source: number, b: Uint8Array): boolean {
    if (guard.kind === 'open') return true;
    if (guard.kind === 'claimed') return guard.filter.passes(b) && this.claim(from, source, guard.token);
    if (this.claims.has(source)) return false;
    const entry = this.table.get(source);
    return entry === undefined || entry.port === from;
  }

  private out(port: SwitchPort, frame: Frame): void {
    const counters = this.counters.get(port) as PortState;
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
