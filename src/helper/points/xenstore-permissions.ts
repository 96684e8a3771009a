/** Permissions, generations, the order of directories, errors and quotas. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'xenstore: permissions and order',
  rows: 'S7',
  seen: 'XS_GET_PERMS, the order of XS_DIRECTORY, generation counts, limits',
  held: 'saved with the store, exactly',
  proof: [
    'test/xenstore/save-restore.test.ts: gives the same answers if it is saved after every byte of a conversation',
  ],
};

export const xenstorePermissions = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => guest.store.dom0.getPermissions(`/local/domain/${guest.domain.config.domid}`).join(),
    (host) => `n0,r${host.domid}`,
    'domid',
  );
