/**
 * The wall clock: shared_info contains the real time at which system time was 0.
 *
 * Invariant: it never goes backwards. Whenever the guest starts to run, on this host or another, it is set to this
 * host's time if that is ahead. A guest that reads it once and then counts with system time is late by the outages
 * that `freeze` hid from it, and by nothing else.
 */
import type { Host } from '../../host/host.js';
import { f64, RecordError, struct } from '../../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../../records/record.js';
import { iso } from '../format.js';
import type { Guest } from '../guest.js';
import { type MigrationPoint, NOT_ATTACHED, type PointDescription } from '../point.js';

const base = { base: [f64, 'wall clock at system time 0, ns since 1970; a multiple of 1024'] } as const;
/** In version 1 every guest saw true time. */
const true1 = struct(base);

export const wallClockRecord = recordType(
  'WALL',
  2,
  'the wall clock that the guest sees',
  { ...base, offsetS: [f64, 'what it is ahead of true time, by rtc_timeoffset and localtime, s'] },
  [
    {
      version: 1,
      body: true1,
      upgrade: (old: ReturnType<typeof true1.read>) => ({ ...old, offsetS: 0 }),
    },
  ],
);
/** No wall clock is further from true time, s: as far as a signed number of 32 bits goes. */
const MAX_OFFSET_S = 2 ** 31;

export const about: PointDescription = {
  name: 'wall clock',
  rows: 'T5',
  seen: 'shared_info.wc_sec and wc_nsec: the true time, and what rtc_timeoffset and localtime add, at which system time was 0',
  held: 'never backwards; follows this host whenever it is ahead as the guest begins to run, always with what was added at power-on',
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
  /** Fixed at power-on, s. */
  private offsetS = 0;
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

  /** At power-on, before the first `follow`. What is no time is none. */
  setOffset(seconds: number): void {
    this.offsetS = Number.isInteger(seconds) && Math.abs(seconds) < MAX_OFFSET_S ? seconds : 0;
  }

  /**
   * To be called when the guest starts to run, after the outage was counted. If time counts instructions, the wall
   * clock does not follow the host, so that every run is the same.
   */
  follow(host: Host): void {
    if (this.guest.domain.clock.deterministic && this.base !== 0) return;
    const origin = host.clock.wallClock() + this.offsetS * 1e9 - this.guest.domain.clock.now();
    this.base = Math.max(this.base, Math.floor(origin / 1024) * 1024);
  }

  save(): Uint8Array {
    return encodeRecord(wallClockRecord, { base: this.base, offsetS: this.offsetS });
  }
  restore(record: Uint8Array): void {
    const { base, offsetS } = decodeRecord(wallClockRecord, decodeRaw(record));
    if (!Number.isFinite(base) || base < 0) throw new RecordError(0, 'not a wall clock');
    if (!Number.isInteger(offsetS) || Math.abs(offsetS) >= MAX_OFFSET_S)
      throw new RecordError(0, 'not an offset of a wall clock');
    this.base = base;
    this.offsetS = offsetS;
  }
}
