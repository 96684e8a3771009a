/** The vCPUs: all their registers and everything that Xen keeps for each, including those that are offline. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'vCPUs',
  rows: 'C7, C8, C10',
  seen: 'registers, debug registers, trap tables, callbacks, descriptor tables, I/O bitmaps, which are up',
  held: 'saved with every field that Xen keeps, at an instruction boundary; nothing is folded or converted',
  proof: [
    'src/hypervisor/saved-state.test.ts: ends in the same state, byte for byte, as one that was never stopped',
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
  ],
};

export const vcpus = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () =>
      `${guest.domain.state.vcpus.filter((v) => v.initialised && !v.down).length} of ${guest.domain.config.vcpus} up`,
    () => NONE,
  );
