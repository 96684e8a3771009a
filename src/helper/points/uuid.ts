/** The uuid of the domain, in XENVER_guest_handle and in the path below /vm. */

import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';
import { uuidText } from '../uuid.js';

export const about: PointDescription = {
  name: 'uuid',
  rows: 'D5',
  seen: 'XENVER_guest_handle, /vm/UUID, /sys/hypervisor/uuid',
  held: 'part of the container; hosts keep it, and refuse a second domain of the same',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'test/migration/faults.test.ts: one live guest',
  ],
};

export const uuid = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => uuidText(guest.container.uuid),
    () => NONE,
  );
