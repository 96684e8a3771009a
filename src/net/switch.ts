/**
 * A learning switch: it remembers on which port each address was last seen, and sends frames there.
 *
 * Invariants: a frame never leaves on the port on which it came in. A port that does not keep up loses its own frames
 * only. Each port has a limit in the address table, so that no port can push out the addresses of others. Source:
 * IEEE 802.1Q, 8.7 and 8.8 (learning and ageing).
 *
 * Who may use an address: a port that has claimed an address (see framing.ts) may send from that address only, and
 * only another port with the same secret token can take the address over, as a guest's link on another host does
 * after a move. A port without a claim may use any address that nobody else has claimed or is using. Only ports that
 * lead to other switches may use all addresses, because the machines behind them move; the operator decides which
 * ports those are.
 */
import type { Frame } from './frame.js';
import { BROADCAST, isGroup, readMac } from './mac.js';
import { finishFrame } from './segment.js';
import type { SourceFilter } from './source-filter.js';

/** An address that was not seen for this long is forgotten, in ms (the default of 802.1Q). */
const AGE_MS = 300_000;
/** How many addresses may be known behind one port. */
const MAX_PER_PORT = 1024;

/** A port, as the switch sees it: where frames leave. */
export interface SwitchPort {
  readonly name: string;
  /** Whether frames may leave with work left to do (frame.ts). */
  readonly offloads: boolean;
  /** False while so much is queued on this port that frames to it are dropped. */
  readonly writable: boolean;
  send(frame: Frame): void;
  flush(): void;
}

/** What a port may send. */
export type PortGuard =
  /** The port leads to another switch, or is trusted as if it did. */
  | { readonly kind: 'open' }
  /** The port has claimed nothing. */
  | { readonly kind: 'plain' }
  | { readonly kind: 'claimed'; readonly filter: SourceFilter; readonly token: string };

const OPEN: PortGuard = { kind: 'open' };

/** The ports that have claimed one address with the same token. */
interface Claim {
  readonly token: string;
  readonly ports: Set<SwitchPort>;
}

interface Entry {
  port: SwitchPort;
  seen: number;
}
interface PortCounters {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  dropped: number;
  /** Frames from this port that were refused because of their source address. */
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

  /** `now` gives milliseconds that never go backwards. */
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

  /** Whether the port may have this address: it is the first to claim it, or it has the same token as the first. */
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

  /** The port behind which an address was seen, if it is known. */
  where(mac: number): SwitchPort | undefined {
    return this.table.get(mac)?.port;
  }

  /**
   * To be called for a frame that came in on `from`. Its bytes must be valid during the call, and may be changed by
   * it.
   */
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
    // Ports that accept frames with work left come first, because doing the work changes the frame.
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

  /** To be called after the last frame of a batch: sends what is queued. */
  flush(): void {
    for (const port of this.counters.keys()) port.flush();
  }

  /** Forgets addresses that were not seen lately. To be called from time to time. */
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
