/** Runstate: the time that each vCPU has spent in each state. Guests show a part of it as stolen time. */

import { seconds } from '../format.js';
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'runstate',
  rows: 'T7',
  seen: 'the runstate area and VCPUOP_get_runstate_info: four times that add up to the system time',
  held: 'saved with each vCPU; the outage is added to the state in which it waited',
  proof: [
    'src/helper/seam.test.ts: counts the outage as time in which its vCPU was runnable',
    'src/hypervisor/time/time-info.test.ts: adds up to the time that has passed',
  ],
};

export const runstate = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () =>
      guest.domain.state.vcpus.map(
        (v) => `${seconds(v.runstateTime[0])} run, ${seconds(v.runstateTime[1])} stolen`,
      )[0],
    () => NONE,
  );
