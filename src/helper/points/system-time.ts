/** System time: the values in vcpu_info, and everything that is measured in it. */

import { seconds } from '../format.js';
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'system time',
  rows: 'T1, T2',
  seen: 'vcpu_info.time and its copies, set_timer_op, runstate: nanoseconds since power-on',
  held: 'one virtual clock that continues from where it stopped, plus the outage where the policy says so; each record published gives the same line',
  proof: [
    'src/helper/seam.test.ts: advances by the outage on a host whose uptime is lower',
    'test/e2e/moves.test.ts: no clock runs backwards on any processor',
  ],
};

export const systemTime = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => seconds(guest.domain.clock.now()),
    (host) => `uptime ${seconds(host.clock.uptime())}`,
    'uptime',
  );
