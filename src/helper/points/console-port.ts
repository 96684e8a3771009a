/** The console's event-channel port, which start_info contains. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'event channel: console',
  rows: 'E1, M5',
  seen: 'start_info.console.domU.evtchn and console/port',
  held: 'a port of the container',
  proof: ['test/e2e/moves.test.ts: sees no difference in anything that it can observe'],
};

export const consolePort = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => String(guest.domain.consolePort),
    (host) => String(host.consolePort),
    'ports',
  );
