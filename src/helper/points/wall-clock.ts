/**
 * The wall clock: shared_info contains the real time at which system time was 0.
 *
 * Invariant: it never goes backwards. Whenever the guest starts to run, on this host or another, it is set to this
 * host's time if that is ahead. A guest that reads it once and then counts with system time is late by the outages
 * that `freeze` hid from it, and by nothing else.
 */
import type { Host } from '../../host/host.js';
import { f64, RecordError } from '../../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../../records/record.js';
import { iso } from '../format.js';
import type { Guest } from '../guest.js';
import { type MigrationPoint, NOT_ATTACHED, type PointDescription } from '../point.js';

export const wallClockRecord = recordType('WALL', 1, 'the wall clock that the guest sees', {
  base: [f64, 'wall clock at system time 0, ns since 1970; a multiple of 1024'],
});

export const about: PointDescription = {
  name: 'wall clock',
  rows: 'T5',
  seen: 'shared_info.wc_sec and wc_nsec: the true time at which system time was 0',
  held: 'never backwards; follows this host whenever it is ahead as the guest begins to run',
  proof: [
    'src/helper/seam.test.ts: follows a host whose clock is ahead, and never goes back',
    'src/hypervisor/time/time-info.test.ts: has its wall clock as of system time 0, in whole seconds and nanoseconds',
  ],
};

export class WallClock implements MigrationPoint {
  readonly name = about.name;
  readonly about = about;
  readonly gives = 'wallClock';
  /**
   * The wall-clock time at system time 0, in ns since 1970. It is a multiple of 1024, so that a double holds it
   * exactly.
   */
  private base = 0;
  private host: Host | undefined;

  constructor(private readonly guest: Guest) {}

  /** The time that the guest sees, in ns since 1970. */
  read(): number {
    return this.base + this.guest.domain.clock.now();
  }
  inner(): string {
    return iso(this.read());
  }
  outer(): string {
    return this.host === undefined ? NOT_ATTACHED : iso(this.host.clock.wallClock());
  }

  async attach(host: Host): Promise<void> {
    this.host = host;
  }
  async detach(): Promise<void> {
    this.host = undefined;
  }

  /**
   * To be called when the guest starts to run, after the outage was counted. If time counts instructions, the wall
   * clock does not follow the host, so that every run is the same.
   */
  follow(host: Host): void {
    if (this.guest.domain.clock.deterministic && this.base !== 0) return;
    const origin = host.clock.wallClock() - this.guest.domain.clock.now();
    this.base = Math.max(this.base, Math.floor(origin / 1024) * 1024);
  }

  save(): Uint8Array {
    return encodeRecord(wallClockRecord, { base: this.base });
  }
  restore(record: Uint8Array): void {
    const { base } = decodeRecord(wallClockRecord, decodeRaw(record));
    if (!Number.isFinite(base) || base < 0) throw new RecordError(0, 'not a wall clock');
    this.base = base;
  }
}
