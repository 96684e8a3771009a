/** The ring to xenstore: indices, partly written requests, partly read answers. */
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'xenstore: ring',
  rows: 'S1',
  seen: 'the page that it shares with xenstore, at any byte of a request or an answer',
  held: 'the page is guest memory; what was taken from it and what was not yet put into it is saved with the store',
  proof: [
    'test/xenstore/save-restore.test.ts: gives the same answers if it is saved after every byte of a conversation',
  ],
};

export const xenstoreRing = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => `0x${guest.domain.engine.ram.mfnOf(guest.container.storePfn).toString(16)}`,
    (host) => `0x${host.storeFrame.toString(16)}`,
    'frames',
  );
