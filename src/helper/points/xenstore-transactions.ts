/** Open transactions and their ids. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, NONE, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'xenstore: transactions',
  rows: 'S2',
  seen: 'transaction ids, and what it has read and written in each',
  held: 'a whole store lives in the container; open transactions are saved with it',
  proof: [
    'test/xenstore/save-restore.test.ts: gives the same answers if it is saved after every byte of a conversation',
  ],
};

export const xenstoreTransactions = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `${guest.store.openTransactions} open`,
    () => NONE,
  );
