/** Bus addresses: a guest without passed-through hardware never sees any. */
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'bus addresses',
  rows: 'M11, E6',
  seen: 'no physical interrupts, no DMA',
  held: 'refused: there is no passthrough, PHYSDEVOP_map_pirq and the like fail as for any domU',
  proof: ['src/hypervisor/events/event-channel-op.test.ts: return the errors that Xen returns'],
};

export const busAddresses = (): MigrationPoint =>
  constantPoint(
    about,
    () => '(none)',
    () => NONE,
  );
