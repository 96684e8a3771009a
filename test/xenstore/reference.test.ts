import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { XS_CONTROL, XS_DIRECTORY_PART, XS_READ, XS_WATCH_EVENT } from '../../src/xen/xs-wire.js';
import type { Connection } from '../../src/xenstore/server/connection.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { restoreState } from '../../src/xenstore/state/restore.js';

/** A message in the form of the fixtures: type, transaction, payload as an octet string. */
type Told = readonly [number, number, string];
interface Step {
  /** Client, type, transaction, payload. */
  readonly ask: readonly [number, number, number, string];
  /** What each client was sent because of this request, in order. */
  readonly answers: readonly (readonly Told[])[];
}

/** The same with one client beside the toolstack; a payload may be continued by so many characters '0'. */
interface DomainStep {
  readonly ask: readonly [number, number, number, string, number?];
  readonly answers: readonly Told[];
}

const fixture = (name: string): Step[] =>
  readFileSync(new URL(`fixtures/${name}`, import.meta.url), 'latin1')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(Buffer.from(line, 'latin1').toString()) as Step);

const heard = (c: Connection): Told[] => {
  const { messages } = c.output.waiting();
  const told = messages.map((m): Told => [m.type, m.txId, m.body]);
  c.output.drain();
  return told;
};

/** The generation at the front of a DIRECTORY_PART reply is the server's own number. */
const comparable = ([type, tx, body]: Told): Told =>
  type === XS_DIRECTORY_PART ? [type, tx, body.replace(/^\d+/, 'N')] : [type, tx, body];

/** Requests whose answers differ on purpose: our answer, and the reason. */
const MEANT: readonly (readonly [asked: string, ours: string, why: string])[] = [
  ['2:/t/a', 'EINVAL', '4.17 answers with the error left over from an earlier request'],
  ['2:', 'EINVAL', 'the same'],
  ['2:/t/a\0x\0', 'EINVAL', 'the same'],
  ['12:/t/q', 'EINVAL', 'the same'],
  ['14:/t/a\0n77\0', 'OK', 'there is no hypervisor to ask whether a domain lives'],
  ['14:/t/a\0n0\0r70000\0', 'EINVAL', 'domain ids go to 65535'],
  ['3:/t/a\0', 'n0\0r77\0', 'therefore'],
  ['14:/t/a\0r-1\0', 'EINVAL', 'the same'],
  ['3:@releaseDomain\0', 'n0', 'since Xen 4.18 permissions of special nodes can be read'],
  ['14:@foo\0n0\0', 'ENOENT', 'the same'],
  ['3:@foo\0', 'ENOENT', 'the same'],
  ['5:bad//\0x\0', 'EINVAL', 'since Xen 4.18'],
];

/** Paths of more than 2048 characters: the protocol allows 3072; 4.17 allows them only below a domain's home. */
const longPath = (body: string): boolean => body.indexOf('\0') > 2048 && body.indexOf('\0') <= 3072;

describe('answers and events', () => {
  test('are those of xenstored 4.17, message by message, for clients of domain 0', () => {
    // That version has no watches with a depth.
    const server = new XenstoreServer({ features: 3 });
    const steps = fixture('xenstored-4.17-answers.jsonl');
    const clients = steps[0].answers.map(() => server.connect('socket', 0));
    let meant = 0;
    for (const { ask, answers } of steps) {
      const [client, type, txId, body] = ask;
      server.handle(clients[client], { type, reqId: 1, txId, body });
      server.settle();
      const got = clients.map((c) => heard(c).map(comparable));
      const want = answers.map((list) => list.map(comparable));
      const other = MEANT.find(([asked]) => asked === `${type}:${body}`);
      if (JSON.stringify(got) !== JSON.stringify(want) && (other !== undefined || longPath(body))) {
        meant++;
        const answer = got[client].find(([t]) => t !== XS_WATCH_EVENT)![2];
        expect([`${type}:${body}`, answer.startsWith(other?.[1] ?? '')]).toEqual([`${type}:${body}`, true]);
        continue;
      }
      expect({ ask, told: got }).toEqual({ ask, told: want });
    }
    expect(meant).toBeLessThan(20);
  });

  test('are those of xenstored 4.17 for an unprivileged domain: rights, limits, and requests that are refused', () => {
    const server = new XenstoreServer({ features: 3 });
    const domid = 1;
    const toolstack = server.local(0);
    toolstack.mkdir(`/local/domain/${domid}`);
    toolstack.setPermissions(`/local/domain/${domid}`, ['n0', `r${domid}`]);
    toolstack.mkdir(`/local/domain/${domid}/data`);
    toolstack.setPermissions(`/local/domain/${domid}/data`, [`n${domid}`]);
    const clients = [server.connect('socket', 0), server.introduce(domid)];
    for (const line of fixture('xenstored-4.17-answers-domu.jsonl') as unknown as DomainStep[]) {
      const [client, type, txId, body, zeros = 0] = line.ask;
      server.handle(clients[client], { type, reqId: 1, txId, body: body + '0'.repeat(zeros) });
      server.settle();
      const told = heard(clients[client]).map(comparable);
      expect({ ask: line.ask, told }).toEqual({ ask: line.ask, told: line.answers.map(comparable) });
    }
  });
});

describe('the state of a real xenstored', () => {
  test('as it passes it on in a live update of 4.17 is restored: nodes, watches, half a request, an unsent reply', () => {
    const bytes = readFileSync(new URL('fixtures/xenstored-4.17-live-update.bin', import.meta.url));
    const server = new XenstoreServer();
    const { connections } = restoreState(server, bytes);
    const dom0 = server.local();
    expect(dom0.read('/stillpoint/a')).toBe('two');
    expect(dom0.readBytes('/stillpoint/a/b')).toEqual(Uint8Array.from(Buffer.from('\0\xff bytes', 'latin1')));
    expect(dom0.getPermissions('/stillpoint/c')).toEqual(['n0', 'r1', 'b0']);
    expect(dom0.list('/')).toEqual(['tool', 'local', 'stillpoint']);

    const watcher = connections.get(3)!;
    expect(watcher.watches.map((w) => [w.path.slice(w.prefix), w.token])).toEqual([
      ['/stillpoint', 'tok en'],
      ['relative/path', 't2'],
      ['@releaseDomain', 't3'],
    ]);
    dom0.write('/local/domain/0/relative/path/x', '');
    expect(heard(watcher)).toEqual([[XS_WATCH_EVENT, 0, 'relative/path/x\0t2\0']]);

    // It had sent "/stillp" of "/stillpoint/a" when its server was replaced.
    const half = connections.get(4)!;
    const rest = Buffer.from('oint/a\0');
    server.receive(half, rest, 0, rest.length);
    expect(heard(half).at(-1)).toEqual([XS_READ, 0, 'two']);
    // The answer to the live-update command itself was still to be sent.
    expect(heard(connections.get(5)!)).toEqual([[XS_CONTROL, 0, 'OK\0']]);
  });
});
