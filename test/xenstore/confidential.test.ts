import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  XS_DIRECTORY_PART,
  XS_MKDIR,
  XS_READ,
  XS_RM,
  XS_SET_PERMS,
  XS_WATCH,
  XS_WRITE,
} from '../../src/xen/xs-wire.js';
import type { LocalClient } from '../../src/xenstore/server/local.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { bytesOf, newClients, type Say, say } from './conversation.js';

/** Nodes of the toolstack, of which domain 1 may learn nothing. */
interface Secret {
  readonly kind: 'write' | 'remove' | 'grant' | 'transient';
  readonly path: string;
  readonly value: string;
}

const secret: fc.Arbitrary<Secret> = fc.record({
  kind: fc.constantFrom('write', 'write', 'remove', 'grant', 'transient'),
  path: fc.constantFrom('/secret/a', '/secret/b', '/secret/b/c', '/secret/d/e/f', '/secret'),
  value: fc.constantFrom('', '1', 'two'),
});

function act(dom0: LocalClient, s: Secret): void {
  if (s.kind === 'write') dom0.write(s.path, s.value);
  else if (s.kind === 'transient')
    dom0.transact((t) => {
      t.write('/secret/tmp', s.value);
      t.remove('/secret/tmp');
      if (t.exists('/secret/a')) t.remove('/secret/a');
    });
  else if (s.kind === 'grant') {
    if (dom0.exists(s.path)) dom0.setPermissions(s.path, ['n0', s.value === '' ? 'r2' : 'b2']);
  } else if (s.path !== '/secret') {
    try {
      dom0.remove(s.path);
    } catch {
      // Its parent does not exist.
    }
  }
}

const SECRETS = ['/secret', '/secret/a', '/secret/b', '/secret/b/c', '/secret/d/e/f', '/secret/new', '/'];
/** The requests of a curious domain: any, often about the secret nodes, in and out of transactions. */
const curious: fc.Arbitrary<Say> = fc.oneof(
  say,
  fc.record({
    client: fc.constant(1),
    transaction: fc.constantFrom(0, 1, 1, 2),
    request: fc
      .tuple(
        fc.constantFrom(XS_READ, XS_WRITE, XS_RM, XS_MKDIR, XS_WATCH, XS_SET_PERMS),
        fc.constantFrom(...SECRETS),
      )
      .map(([type, path]) => {
        const rest =
          type === XS_WATCH ? 'token\0' : type === XS_SET_PERMS ? 'b1\0' : type === XS_WRITE ? 'x' : '';
        return [type, `${path}\0${rest}`] as const;
      }),
  }),
);

/**
 * One step: the toolstack does something secret, or the domain makes a request, or the toolstack does something open.
 */
type Step = { readonly secret: readonly [Secret | undefined, Secret | undefined] } | { readonly said: Say };
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.record({
      secret: fc.tuple(fc.option(secret, { nil: undefined }), fc.option(secret, { nil: undefined })),
    }),
  },
  { weight: 3, arbitrary: curious.map((said) => ({ said })) },
);

/** Runs the steps in world 0 or 1, which differ only in what is done in secret. Returns what domain 1 received. */
function play(steps: readonly Step[], world: 0 | 1, withDomain = true) {
  const server = new XenstoreServer();
  const clients = newClients(server);
  const dom0 = server.local();
  dom0.write('/secret', 'top');
  let heard = '';
  steps.forEach((s, i) => {
    if ('secret' in s) {
      const one = s.secret[world];
      if (one !== undefined) act(dom0, one);
    } else if (s.said.client === 1 && withDomain) {
      // A generation reveals the number of all changes, as xenstored's does.
      if (s.said.request[0] === XS_DIRECTORY_PART) return;
      const bytes = bytesOf(s.said, i);
      server.receive(clients[1], bytes, 0, bytes.length);
    } else if (s.said.client === 0 && !s.said.request[1].startsWith('/secret') && isOpen(s.said)) {
      const bytes = bytesOf(s.said, i);
      server.receive(clients[0], bytes, 0, bytes.length);
    }
    server.settle();
    heard += Buffer.from(clients[1].output.drain()).toString('latin1');
    clients[0].output.clear();
  });
  return { heard, secret: dump(dom0, '/secret') };
}

/** The toolstack keeps the root, and with it the secret, to itself, and gives nobody its own rights. */
const isOpen = ({ request: [type, body] }: Say): boolean =>
  !body.startsWith('/\0') && type !== 19 && !(type === XS_SET_PERMS && body.startsWith('/\0'));

const dump = (dom0: LocalClient, at: string): string =>
  `${at}=${dom0.read(at)}(${dom0.getPermissions(at)})[${dom0.list(at).map((n) => dump(dom0, `${at}/${n}`))}]`;

describe('a domain', () => {
  test('receives the same, bit for bit, whatever happens where it has no rights', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
        expect(play(steps, 0).heard).toBe(play(steps, 1).heard);
      }),
      { numRuns: 3000 },
    );
  });

  test('changes nothing where it has no rights, whatever it sends', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
        expect(play(steps, 0).secret).toBe(play(steps, 0, false).secret);
      }),
      { numRuns: 1000 },
    );
  });

  test('cannot learn from a conflict that a node which it may not read has changed', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    dom0.write('/secret/x', '1');
    dom0.mkdir('/local/domain/1');
    dom0.setPermissions('/local/domain/1', ['n1']);
    const t = server.local(1).begin();
    expect(() => t.read('/secret/x')).toThrow('EACCES');
    expect(() => t.read('/secret/none')).toThrow('EACCES');
    t.write('mine', '1');
    dom0.write('/secret/x', '2');
    dom0.write('/secret/none', '2');
    expect(t.commit()).toBe(true);
  });

  test('that was denied what it may do now has to ask again: its transaction conflicts', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    dom0.write('/secret/x', '1');
    const t = server.local(1).begin();
    expect(() => t.read('/secret/x')).toThrow('EACCES');
    dom0.setPermissions('/secret/x', ['n0', 'r1']);
    expect(t.commit()).toBe(false);
  });
});
