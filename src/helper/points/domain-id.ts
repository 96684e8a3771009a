/** The domain id, in xenstore paths and permissions, event channels and grants. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'domain id',
  rows: 'D1-D4',
  seen: 'its own id in xenstore paths, permissions, event channels and grants; 0 for every back end',
  held: 'a constant of the container; each host knows the domain by an id of its own, not used again soon',
  proof: [
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
    'src/helper/seam.test.ts: shows on the host what the guest writes, under the id of that host',
  ],
};

export const domainId = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => String(guest.domain.config.domid),
    (host) => String(host.domid),
    'domid',
  );
