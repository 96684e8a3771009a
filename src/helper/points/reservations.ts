/** Reservations and limits: memory, e820, grant frames, ports. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'reservations',
  rows: 'R',
  seen: 'XENMEM_current_reservation and the like, the memory map, limits of ports and grants',
  held: 'part of the saved domain',
  proof: [
    'src/hypervisor/mmu/memory-op.test.ts: of memory are those that the toolstack set',
    'src/hypervisor/saved-state.test.ts: keeps its ports, grants, page-table types and registrations',
  ],
};

export const reservations = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `${guest.domain.config.memoryFrames} of ${guest.domain.config.maxFrames} frames`,
    () => NONE,
  );
