/** Whether the console's back end is connected: a byte in the console page. */
import { XENCONS_CONNECTION, XENCONSOLE_CONNECTED } from '../../xen/console.js';
import type { Guest } from '../guest.js';
import { constantPoint, type MigrationPoint, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'console connection',
  rows: 'B',
  seen: 'the byte `connection` behind the indices of the console page (since Xen 4.21): stock Xen says disconnected, then connected again, on every host',
  held: 'connected before the first instruction and never written again: guest memory, whether or not anybody looks at the console',
  proof: [
    'src/helper/seam.test.ts: is told before its first instruction that its console is connected, and on every host after that',
  ],
};

export const consoleConnection = (guest: Guest): MigrationPoint =>
  constantPoint(
    about,
    () => {
      const { ram } = guest.domain.engine;
      const value = ram.mem.getU8(ram.linearOf(guest.container.consolePfn) + XENCONS_CONNECTION);
      return value === XENCONSOLE_CONNECTED ? 'connected' : `${value}`;
    },
    () => 'connected',
  );
