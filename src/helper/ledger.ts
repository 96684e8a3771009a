/**
 * The ledger: all migration points of one guest, attached to a host together and let go of together, and a table of
 * what the guest sees against what this host gave.
 */
import type { DevicePoint } from '../devices/links.js';
import type { Host } from '../host/host.js';
import { bytes, list, RecordError, struct, text } from '../records/fields.js';
import type { MigrationPoint } from './point.js';

/** Field of the guest's state: what points with a state of their own keep. */
export const pointList = list(
  struct({ name: [text, 'name of the point'], record: [bytes, 'record of the point'] }),
);
type SavedPoint = ReturnType<typeof pointList.read>[number];

/** One line, for people and for JSON. */
export interface LedgerRow {
  readonly name: string;
  readonly rows: string;
  /** What the guest sees. */
  readonly inner: string;
  /** What the present host gave. */
  readonly outer: string;
  /** The host invented this value: it is not a real Xen's. */
  readonly pretended: boolean;
}

/** Rows of the table that the points of devices belong to. */
const DEVICE_ROWS = 'S5, B';

export class Ledger {
  private host: Host | undefined;

  constructor(
    readonly points: readonly MigrationPoint[],
    private readonly devicePoints: () => readonly DevicePoint[],
  ) {}

  /** All points take this host's values, or none does. */
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
  }

  async detach(): Promise<void> {
    this.host = undefined;
    for (const point of [...this.points].reverse()) await point.detach();
  }

  save(): SavedPoint[] {
    return this.points.flatMap((p) => (p.save === undefined ? [] : [{ name: p.name, record: p.save() }]));
  }

  /** Throws RecordError. A point that the record does not know stays as it is at power-on. */
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
    ];
  }
}
