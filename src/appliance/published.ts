/**
 * What a helper shows of itself to dom0, in nodes below data/stillpoint of its home in xenstore, each of them JSON:
 *
 *   state      what the guest is and how it is: PublishedState
 *   facts      what the helper's kernel says of Xen and the processor, by name
 *   hosts      the places at which the guest has been, in the order of time: PublishedPlace[]
 *   points/N   one row of the ledger: PublishedPoint, whose `outer` has one value for each place
 *   move       the move to another host that dom0 has asked for: PublishedMove
 *   log        the latest messages, oldest first: text[]
 *
 * Invariant: each node is at most MAX_BYTES long. Where the values of a row are longer, each of them is cut.
 */
import type { PointRow } from '../guest-process/guest-runner.js';
import type { LedgerColumn } from '../helper/ledger.js';
import type { HostStore } from '../host/host.js';
import { printable } from '../protocol/printable.js';

/** What a domain may write into one node, with some room: the quota of xenstored is 2048 bytes (entry-size). */
const MAX_BYTES = 1800;
const MAX_POINTS = 200;
const MAX_LINE = 400;
/** How long lines are gathered, ms: a guest may cause any number. */
const LOG_MS = 500;
/** A value is cut to the first of these lengths with which its row fits. */
const CUTS = [1000, 400, 200, 100, 60, 30, 10];

export interface PublishedState {
  /**
   * "starting", "waiting" (for a guest of another host), "running", or how the guest ended: "poweroff", "reboot",
   * "crash", "moved".
   */
  readonly state: string;
  /** The version of Stillpoint. */
  readonly stillpoint: string;
  readonly guest: string;
  readonly uuid: string;
  readonly domid: number;
  /** How often the helper was found moved. */
  readonly moves: number;
  /** The time in which the guest could not run, of all moves, saves and pauses together, ns. */
  readonly outageNs: number;
  /** Whether outages show in the guest's clock. */
  readonly clock: string;
  /** What the helper's Linux could still give to programs (MemAvailable), KiB; undefined: it does not say. */
  readonly availableKib?: number;
  /** When this was written, ISO 8601. */
  readonly at: string;
  /** Where it listens for other hosts, if it was made for that. */
  readonly listens?: string;
  /** The reason given to Xen, when the guest has ended. */
  readonly reason?: number;
  /** The host at which a guest that has moved lives now. */
  readonly to?: string;
}

/** A move to another host that dom0 has asked for. */
export interface PublishedMove {
  /** "moving", "moved", or "stays": the guest continues here. */
  readonly state: string;
  readonly to: string;
  /** When this was written, ISO 8601. */
  readonly at: string;
  /** Why the guest stays, or is not known to live there so far. */
  readonly error?: string;
  readonly totalMs?: number;
  /** How long the guest stood still, ms. */
  readonly downtimeMs?: number;
}

export interface PublishedPlace {
  readonly domid: number;
  /** ISO 8601. */
  readonly since: string;
}

export interface PublishedPoint {
  readonly name: string;
  readonly rows: string;
  readonly inner: string;
  readonly outer: readonly string[];
}

const bytesOf = (text: string): number => Buffer.byteLength(text);
const cut = (value: string, most: number): string =>
  value.length > most ? `${value.slice(0, most)}...` : value;

/** `make` gets how long a value may be. */
function fitting(make: (most: number) => unknown): string {
  for (const most of CUTS) {
    const json = JSON.stringify(make(most));
    if (bytesOf(json) <= MAX_BYTES) return json;
  }
  return '{}';
}

export class Published {
  private readonly lines: string[] = [];
  private timer: NodeJS.Timeout | undefined;
  private points = 0;

  constructor(private readonly store: HostStore) {}

  state(state: PublishedState): void {
    this.put('state', JSON.stringify(state));
  }

  move(move: PublishedMove): void {
    this.put('move', JSON.stringify({ ...move, error: cut(move.error ?? '', MAX_LINE) || undefined }));
  }

  facts(facts: Readonly<Record<string, string>>): void {
    const of = (most: number): unknown =>
      Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, cut(value, most)]));
    this.put('facts', fitting(of));
  }

  /** The last column is the present place: its values are those of the rows. */
  ledger(rows: readonly PointRow[], columns: readonly LedgerColumn[]): void {
    this.put('hosts', JSON.stringify(columns.map(({ domid, since }): PublishedPlace => ({ domid, since }))));
    const earlier = columns.slice(0, -1);
    const shown = rows.slice(0, MAX_POINTS);
    for (const [i, { name, rows: covered, inner, outer }] of shown.entries()) {
      const row = (most: number): PublishedPoint => ({
        name: cut(name, most),
        rows: covered,
        inner: cut(inner, most),
        outer: [...earlier.map((column) => cut(column.outer[name] ?? '', most)), cut(outer, most)],
      });
      this.put(`points/${i}`, fitting(row));
    }
    for (let i = shown.length; i < this.points; i++) this.put(`points/${i}`, null);
    this.points = shown.length;
  }

  log(line: string): void {
    this.lines.push(`${new Date().toISOString()} ${printable(line, MAX_LINE)}`);
    let bytes = bytesOf(JSON.stringify(this.lines));
    while (bytes > MAX_BYTES) bytes -= bytesOf(JSON.stringify(this.lines.shift())) + 1;
    this.timer ??= setTimeout(() => this.putLog(), LOG_MS).unref();
  }

  /** All of it is with dom0, or cannot be. */
  async settled(): Promise<void> {
    if (this.timer !== undefined) this.putLog();
    await this.store.settled?.();
  }

  private putLog(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.put('log', JSON.stringify(this.lines));
  }

  private put(path: string, value: string | null): void {
    this.store.publish?.(path, value);
  }
}
