/** Target: messages to xenstore over a guest's ring, and the state of the ring itself. */
import { XenstoreDomainInterface as Page, XENSTORE_RECONNECT } from '../../src/xen/xs-wire.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { encodeMessage } from '../../src/xenstore/wire/message.js';
import { GuestRing } from '../xenstore/guest-ring.js';
import type { Choices } from './choices.js';
import type { Target } from './fuzz.js';

const SECRET = 'nobody may read this';
const PATHS = [
  '/',
  'x',
  'x/y',
  'data',
  '/a/b',
  '/secret',
  '/local/domain/1',
  '/local/domain/2/x',
  '@releaseDomain',
  '//',
  '',
];
const WORDS = ['t', 'n1', 'r2', 'b0', '0', '1', '2', 'T', 'F', '-1', '65536', '4294967296', 'domid'];

function body(c: Choices): string {
  let text = c.once(8) ? '' : `${c.pick(PATHS)}\0`;
  for (let n = c.below(4); n > 0; n--) text += c.pick(WORDS) + (c.once(8) ? '' : '\0');
  if (c.once(24)) text += 'p'.repeat(c.below(4000));
  if (c.once(12)) text += String.fromCharCode(c.below(256));
  return text.slice(0, 4096);
}

export function store(): Target {
  const server = new XenstoreServer();
  const dom0 = server.local();
  for (const d of [1, 2]) {
    dom0.mkdir(`/local/domain/${d}`);
    dom0.setPermissions(`/local/domain/${d}`, [`n${d}`]);
  }
  dom0.write('/secret', SECRET);
  dom0.setPermissions('/secret', ['n0']);
  let ring = new GuestRing(server, server.introduce(1));
  const fields = [Page.req_cons, Page.req_prod, Page.rsp_cons, Page.rsp_prod, Page.connection, Page.error];
  let heard = '';
  return {
    name: 'messages to xenstore, and its ring',
    files: /\/dist\/xenstore\//,
    most: 300,
    run(c) {
      for (let n = 1 + c.below(20); n > 0 && !c.over; n--) {
        if (c.once(10))
          ring.set(c.pick(fields), c.once(3) ? c.word() : ring.get(c.pick(fields)) + c.below(2000));
        else {
          const txId = c.once(3) ? c.below(6) : 0;
          const bytes = encodeMessage({ type: c.below(28), reqId: c.word(), txId, body: body(c) });
          if (c.once(10)) bytes[c.below(bytes.length)] = c.below(256);
          ring.put(bytes.subarray(0, c.once(20) ? c.below(bytes.length) : bytes.length));
        }
        ring.ring.pump();
        heard = heard.slice(-64) + Buffer.from(ring.take(4096)).toString('latin1');
        if (heard.includes(SECRET)) throw new Error('the guest has read what it may not');
        if (ring.connection.state === 'failed') {
          for (const field of fields.slice(0, 4)) ring.set(field, 0);
          ring.set(Page.connection, XENSTORE_RECONNECT);
          ring.ring.pump();
        }
        if (ring.connection.state === 'closed') ring = new GuestRing(server, server.introduce(1));
      }
      const { accounts } = server.store;
      for (const account of accounts.byDomid.values()) {
        if (account.domid === 0) continue;
        for (const [what, is] of Object.entries({ nodes: account.nodes, watches: account.watches - 1 }))
          if (is > accounts.limit(account.domid, what as 'nodes' | 'watches'))
            throw new Error(`domain ${account.domid} has ${is} ${what}`);
      }
      if (dom0.read('/secret') !== SECRET) throw new Error('the guest has written what it may not');
    },
  };
}
