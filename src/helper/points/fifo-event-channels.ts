/** The FIFO ABI for events, which is not offered. */
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'FIFO event channels',
  rows: 'E4',
  seen: 'EVTCHNOP_init_control fails',
  held: 'not offered: guests fall back to the two-level ABI, whose state is in shared_info',
  proof: ['src/hypervisor/events/event-channel-op.test.ts: return the errors that Xen returns'],
};

export const fifoEventChannels = (): MigrationPoint =>
  constantPoint(
    about,
    () => 'two-level ABI',
    () => NONE,
  );
