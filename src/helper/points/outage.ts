/**
 * The outage: the time in which the guest is stopped, because of a move, in a saved file, or paused.
 *
 * There are two policies. With `elapse`, time goes on and the guest's processors waited (stolen time); timers that
 * became due fire once. With `freeze`, nothing happened as far as the guest can see. On one host the outage is
 * measured with the host's own monotonic clock. Between hosts it is measured with the wall clocks, corrected by their
 * difference if the daemons could measure it, and limited to what the destination knows for certain: a guest whose
 * last pages began to arrive 20 ms ago has been stopped for at least 20 ms, and one whose first pages began to arrive
 * 2 s ago was still running 2 s ago.
 *
 * Invariant: system time never runs backwards, and never ahead of the time that has really passed since power-on.
 */
import type { Host } from '../../host/host.js';
import { f64, RecordError, struct, u8 } from '../../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../../records/record.js';
import { seconds } from '../format.js';
import type { Guest } from '../guest.js';
import { type MigrationPoint, NOT_ATTACHED, type PointDescription } from '../point.js';

export type ClockPolicy = 'elapse' | 'freeze';
const POLICIES: readonly ClockPolicy[] = ['elapse', 'freeze'];

/** What a move knows about the outage that it causes. */
export interface OutageTerms {
  /** The policy for this outage only, instead of the guest's own policy. */
  readonly clock?: ClockPolicy;
  /** The destination's wall clock minus ours in ns, if it was measured. */
  readonly clockDifference?: number;
}

/** What the destination has measured itself. */
export interface OutageBounds {
  /** The guest has been stopped for at least this long, in ns. */
  readonly least: number;
  /** The guest was still running this long ago, in ns. */
  readonly most: number;
}

/**
 * A longer outage (a file that is restored much later) counts as this long, in ns. The wall clock follows in any
 * case.
 */
const LONGEST_OUTAGE_NS = 10 * 86_400e9;
const NO_BOUNDS: OutageBounds = { least: 0, most: LONGEST_OUTAGE_NS };

const fields = {
  policy: [u8, "the guest's own policy: 0 elapse, 1 freeze"],
  now: [u8, 'the policy of this outage'],
  stoppedWall: [
    f64,
    "when it was stopped, by the next host's wall clock as far as that is known, ns since 1970",
  ],
  total: [f64, 'outages before this one, ns'],
} as const;
/** The first layout: what was owed counted as part of this outage. */
const outage1 = struct(fields);

export const outageRecord = recordType(
  'OUTG',
  2,
  'the outage that a guest is in',
  { ...fields, owed: [f64, 'what the guest has yet to see of outages before this one, ns'] },
  [
    {
      version: 1,
      body: outage1,
      upgrade: (old: ReturnType<typeof outage1.read>) => ({ ...old, owed: 0 }),
    },
  ],
);

export const about: PointDescription = {
  name: 'outage',
  rows: 'T8',
  seen: 'a stop: under `elapse` as stolen time (2 s and more also as the mark that the ABI has for it, which every vCPU finds before its clock goes on, and with each timer event for which a kernel may catch up), under `freeze` not at all',
  held: 'measured between stop and first instruction and added to the virtual clock, or not, as `clock` says',
  proof: [
    'src/hypervisor/time/time-info.test.ts: is told of a stop of 2 s or more, and of a host that kept it from running for so long',
    'src/hypervisor/time/elapse.test.ts: is known to all vCPUs before one checks for a stall, where a timer interrupt reads its clock',
    'src/hypervisor/time/elapse.test.ts: is told again before the clock continues, where a vCPU masks events',
    'src/hypervisor/time/timers.test.ts: finds both right when it catches up after a stop',
    'src/hypervisor/time/elapse.test.ts: of more than an hour passes in parts while vCPUs compute',
    'src/hypervisor/time/time-info.test.ts: finds the mark of a long stop, while it runs, before it can see the jump, once for each jump',
    'src/helper/seam.test.ts: has that counted as one outage',
    'src/helper/seam.test.ts: advances by the outage on a host whose uptime is lower',
    'src/helper/seam.test.ts: advances, after a pause or a move, by the rest of a long stop that had passed only in part',
    'src/helper/seam.test.ts: goes on by what was left of a long stop, though the move that comes amid it is a short outage',
    'src/helper/seam.test.ts: does not advance under freeze',
    'src/helper/seam.test.ts: is usable after it was stopped for a virtual day, under both policies',
  ],
};

export class Outage implements MigrationPoint {
  readonly name = about.name;
  readonly about = about;
  private host: Host | undefined;
  /** This host's uptime when the guest stopped here, or when its state arrived. */
  private since: number | undefined;
  /** The wall-clock time at which it was stopped on another host; undefined if it was stopped here. */
  private stoppedWall: number | undefined;
  private bounds = NO_BOUNDS;
  private terms: OutageTerms = {};
  /** What the guest has yet to see of the outages before this one, in ns; it passes with this one, whatever its policy. */
  private owed = 0;
  /** The total of all outages so far in ns, whether the guest was told or not. */
  total = 0;

  constructor(
    private readonly guest: Guest,
    /** The guest's own policy. */
    public policy: ClockPolicy,
  ) {}

  inner(): string {
    return this.policy === 'elapse' ? `${seconds(this.total)} of time passed by` : 'never happened';
  }
  outer(): string {
    return this.host === undefined ? NOT_ATTACHED : `${seconds(this.total)} in all`;
  }

  async attach(host: Host): Promise<void> {
    this.host = host;
  }
  async detach(): Promise<void> {
    this.host = undefined;
  }

  /** To be called when the guest has just been stopped. */
  stopped(host: Host): void {
    this.owed += this.guest.domain.takeOwed();
    this.since = host.clock.uptime();
    this.stoppedWall = undefined;
    this.terms = {};
  }

  /** Sets what a move says about the outage that it causes. */
  setTerms(terms: OutageTerms): void {
    this.terms = terms;
  }

  /**
   * To be called when the guest's state has just arrived here. `bounds` is what this side knows about the outage at
   * this moment.
   */
  arrived(host: Host, bounds: OutageBounds = NO_BOUNDS): void {
    this.since = host.clock.uptime();
    this.bounds = bounds;
  }

  /**
   * To be called when the guest continues. It computes the length of the outage and, if the policy says so, adds it
   * to the virtual clock.
   */
  over(host: Host): void {
    if (this.since === undefined) return;
    const sinceHere = Math.max(0, host.clock.uptime() - this.since);
    const length = Math.floor(this.stoppedWall === undefined ? sinceHere : this.elsewhere(host, sinceHere));
    this.since = undefined;
    this.stoppedWall = undefined;
    this.bounds = NO_BOUNDS;
    this.total += length;
    const policy = this.terms.clock ?? this.policy;
    this.terms = {};
    const { owed } = this;
    this.owed = 0;
    this.guest.domain.elapse(policy === 'elapse' ? length + owed : owed);
  }

  /** The guest did not run for `ns`, and nobody had stopped it: its process or its host was suspended. It continues. */
  unforeseen(ns: number): void {
    this.total += ns;
    if (this.policy === 'elapse') this.guest.domain.elapse(ns);
  }

  private elsewhere(host: Host, sinceHere: number): number {
    const byClocks = host.clock.wallClock() - (this.stoppedWall as number);
    const least = this.bounds.least + sinceHere;
    const most = Math.min(this.bounds.most + sinceHere, LONGEST_OUTAGE_NS);
    return Math.max(0, Math.min(Math.max(byClocks, least), most));
  }

  save(): Uint8Array {
    const host = this.host;
    const wall = host === undefined ? 0 : host.clock.wallClock();
    const sinceStop = host === undefined || this.since === undefined ? 0 : host.clock.uptime() - this.since;
    return encodeRecord(outageRecord, {
      policy: POLICIES.indexOf(this.policy),
      now: POLICIES.indexOf(this.terms.clock ?? this.policy),
      stoppedWall: wall - sinceStop + (this.terms.clockDifference ?? 0),
      total: this.total,
      owed: this.owed,
    });
  }

  restore(record: Uint8Array): void {
    const { policy, now, stoppedWall, total, owed } = decodeRecord(outageRecord, decodeRaw(record));
    if (!(policy in POLICIES) || !(now in POLICIES)) throw new RecordError(0, 'no such clock policy');
    if (!Number.isFinite(stoppedWall) || !(total >= 0) || !(owed >= 0))
      throw new RecordError(0, 'not the record of an outage');
    this.policy = POLICIES[policy];
    this.terms = { clock: POLICIES[now] };
    this.stoppedWall = stoppedWall;
    this.total = total;
    this.owed = Math.min(owed, LONGEST_OUTAGE_NS);
  }
}
