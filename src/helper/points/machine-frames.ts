/** Machine frame numbers: in page tables, cr3, the p2m and M2P tables, grants, registers, and half-built batches. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'machine frames',
  rows: 'M1-M10',
  seen: 'every MFN in page tables, registers, lists and hypercalls; the M2P; max_mfn',
  held: 'MFN = PFN + a constant, so that no value in flight has to be found and rewritten; the M2P is saved with memory',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'src/hypervisor/saved-state.test.ts: ends in the same state, byte for byte, as one that was never stopped',
  ],
};

export const machineFrames = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => {
      const { frames, map } = guest.domain.engine.ram;
      return `0x${map.firstMfn.toString(16)} + PFN, ${frames} frames`;
    },
    (host) => `rings at 0x${host.storeFrame.toString(16)} and 0x${host.consoleFrame.toString(16)}`,
    'frames',
  );
