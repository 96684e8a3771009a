/** The grant table: references, flags that the mapping side sets, handles, sizes, reserved entries. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'grant table',
  rows: 'G1-G5',
  seen: 'grant references in xenstore and rings, GTF_reading and GTF_writing, handles, frames of the table',
  held: 'its frames are guest memory and are never dropped; grants in use stay pinned across the move',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'src/hypervisor/saved-state.test.ts: keeps its ports, grants, page-table types and registrations',
  ],
};

export const grantTable = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () =>
      `version 1, ${guest.domain.state.grants.nrFrames} frames, ${guest.domain.state.grants.pins().length} in use`,
    () => NONE,
  );
