/** The CMOS clock and the PIT behind their I/O ports. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'CMOS clock',
  rows: 'T9',
  seen: 'ports 0x70, 0x71, 0x42, 0x43, 0x61',
  held: 'made from the wall clock that the guest sees; the selected register is saved',
  proof: ['src/hypervisor/emulation/privileged.test.ts: finds no hardware behind the I/O ports'],
};

export const rtc = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => new Date(guest.wallClock() / 1e6).toISOString().slice(0, 19),
    (host) => new Date(host.clock.wallClock() / 1e6).toISOString().slice(0, 19),
    'wallClock',
  );
