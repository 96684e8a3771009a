/**
 * The ledger: all migration points of one guest. They are attached to a host together and detached together. It also
 * makes the table that shows what the guest sees next to what this host provides.
 */
import type { DevicePoint } from '../devices/links.js';
import type { Host } from '../host/host.js';
import { bytes, list, RecordError, struct, text } from '../records/fields.js';
import { iso } from './format.js';
import { type MigrationPoint, NONE } from './point.js';

/** The field of the guest's state that holds the records of points with a state of their own. */
export const pointList = list(
  struct({ name: [text, 'name of the point'], record: [bytes, 'record of the point'] }),
);
type SavedPoint = ReturnType<typeof pointList.read>[number];

/** One line of the table, for people and as JSON. */
export interface LedgerRow {
  readonly name: string;
  readonly rows: string;
  /** What the guest sees. */
  readonly inner: string;
  /** What the present host provides. */
  readonly outer: string;
  /** The host invented this value: it is not a real Xen's. */
  readonly pretended: boolean;
}

/** What one host provided: the outer values as they were when the guest had come there. */
export interface LedgerColumn {
  /** The host, and the domain id that it gave. */
  readonly host: string;
  readonly domid: number;
  /** The host's wall clock when the guest had come, ISO 8601. */
  readonly since: string;
  /** By the name of the row. */
  readonly outer: Readonly<Record<string, string>>;
}

/** How many hosts are remembered: the first and the latest. */
const MAX_COLUMNS = 16;

/** The rows in rows.ts that the points of devices cover. */
const DEVICE_ROWS = 'S5, B';

export class Ledger {
  private host: Host | undefined;
  /** One for each host that the guest has been on in this process, the present one last. */
  private readonly hosts: LedgerColumn[] = [];

  constructor(
    readonly points: readonly MigrationPoint[],
    private readonly devicePoints: () => readonly DevicePoint[],
  ) {}

  /** Attaches all points to this host. If one fails, all are detached again. */
  async attach(host: Host): Promise<void> {
    const attached: MigrationPoint[] = [];
    try {
      for (const point of this.points) {
        await point.attach(host);
        attached.push(point);
      }
    } catch (error) {
      for (const point of attached.reverse()) await point.detach();
      throw error;
    }
    this.host = host;
    this.changed();
  }

  /** The host has become another: the helper was moved with its guest. */
  changed(): void {
    const { host } = this;
    if (host === undefined) return;
    const outer = Object.fromEntries(this.rows().map((row) => [row.name, row.outer]));
    const since = iso(host.clock.wallClock());
    this.hosts.push({ host: host.identity.name, domid: host.domid, since, outer });
    if (this.hosts.length > MAX_COLUMNS) this.hosts.splice(1, 1);
  }

  /** What each host has provided, in the order of time; at most MAX_COLUMNS of them. */
  columns(): readonly LedgerColumn[] {
    return this.hosts;
  }

  async detach(): Promise<void> {
    this.host = undefined;
    for (const point of [...this.points].reverse()) await point.detach();
  }

  save(): SavedPoint[] {
    return this.points.flatMap((p) => (p.save === undefined ? [] : [{ name: p.name, record: p.save() }]));
  }

  /** Restores the points. A point that has no saved state stays as it is at power-on. Throws RecordError. */
  restore(saved: readonly SavedPoint[]): void {
    for (const { name, record } of saved) {
      const point = this.points.find((p) => p.name === name);
      if (point?.restore === undefined) throw new RecordError(0, `unknown migration point ${name}`);
      point.restore(record);
    }
  }

  rows(): LedgerRow[] {
    return [
      ...this.points.map((p) => ({
        name: p.name,
        rows: p.about.rows,
        inner: p.inner(),
        outer: p.outer(),
        pretended: p.gives !== undefined && this.host?.pretended.has(p.gives) === true,
      })),
      ...this.devicePoints().map((p) => ({
        name: p.name,
        rows: DEVICE_ROWS,
        inner: p.inner(),
        outer: p.outer(),
        pretended: false,
      })),
      ...(this.host?.devices ?? []).map(({ kind, devid, nodes }) => ({
        name: `${kind} ${devid}: the helper's own`,
        rows: DEVICE_ROWS,
        inner: NONE,
        outer: Object.entries(nodes)
          .map(([name, value]) => `${name} ${value}`)
          .join(', '),
        pretended: false,
      })),
    ];
  }
}
