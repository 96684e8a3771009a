/** Watches: their paths and tokens, and events that were not delivered yet. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'xenstore: watches',
  rows: 'S3',
  seen: 'its watches; each fires for a change, and none because of a move',
  held: 'saved with the store, and events not yet delivered too',
  proof: [
    'test/xenstore/save-restore.test.ts: gives the same answers if it is saved after every byte of a conversation',
  ],
};

export const xenstoreWatches = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `${guest.store.watches} set`,
    () => NONE,
  );
