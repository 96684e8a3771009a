/** All ports except those of xenstore and console: numbers, kinds, bindings, pending and mask bits. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'event channels',
  rows: 'E1-E3, E5, E7',
  seen: 'port numbers of every virtual interrupt, IPI and interdomain channel; pending and mask bits; what EVTCHNOP_status says',
  held: 'the port table is saved with the guest; pending and mask bits are guest memory; ports of back ends are served once on arrival',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'src/hypervisor/saved-state.test.ts: keeps its ports, grants, page-table types and registrations',
  ],
};

export const eventChannels = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `${guest.domain.state.events.portsInUse()} ports`,
    () => NONE,
  );
