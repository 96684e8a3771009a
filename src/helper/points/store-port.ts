/** The event-channel port of xenstore, which start_info contains. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'event channel: store',
  rows: 'E1, M5',
  seen: 'start_info.store_evtchn and store/port',
  held: 'a port of the container',
  proof: ['test/e2e/moves.test.ts: sees no difference in anything that it can observe'],
};

export const storePort = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => String(guest.domain.storePort),
    (host) => String(host.storePort),
    'ports',
  );
