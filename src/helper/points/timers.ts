/** Timers: single-shot and periodic timers, time-outs of polls, and watchdogs, all in virtual time. */
import { armed } from '../../hypervisor/time/timers.js';
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'timers',
  rows: 'T6',
  seen: 'the deadlines it set, each of which fires once',
  held: 'saved as virtual time with each vCPU; one that came due during the outage fires once, on arrival',
  proof: [
    'src/helper/seam.test.ts: a timer that came due during the outage fires once after it',
    'src/hypervisor/saved-state.test.ts: ends in the same state, byte for byte, as one that was never stopped',
  ],
};

export const timers = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `${armed(guest.domain.state)} armed`,
    () => NONE,
  );
