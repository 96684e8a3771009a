/**
 * Tests a host that is trusted to send and receive guests and abuses that, and hosts that are no longer trusted or
 * never were.
 */
import { randomUUID, webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Identity, initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';
import { TwoHosts, until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';
import { Random } from '../twin/random.js';
import { Line } from './line.js';

const PORT = testPort(17_800);
const M_PORT = PORT + 20;

/** Makes a certificate that is valid between two dates. */
async function certificate(notBefore: Date, notAfter: Date): Promise<Pick<Identity, 'key' | 'certificate'>> {
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');
  x509.cryptoProvider.set(webcrypto);
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${randomUUID()}`,
    serialNumber: '01',
    notBefore,
    notAfter,
    signingAlgorithm: algorithm,
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return {
    key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`,
    certificate: `${made.toString('pem')}\n`,
  };
}

describe('a trusted host that is hostile', () => {
  let hosts: TwoHosts;
  let mallory: Identity;
  let a: { port: number; certificate: string };
  let servers: tls.Server[] = [];
  const DAY = 86_400_000;

  beforeAll(async () => {
    hosts = await TwoHosts.open(PORT);
    mallory = await initIdentity(join(hosts.root, 'M'));
    trust(hosts.a.dir, 'M', mallory.certificate, `127.0.0.1:${M_PORT}`, ['move']);
    a = { port: hosts.a.port, certificate: loadIdentity(hosts.a.dir)!.certificate };
  });
  afterAll(() => hosts?.close());
  afterEach(async () => {
    for (const server of servers) server.close();
    servers = [];
    // Whatever was sent, the daemon still runs and nothing remains of what was begun.
    expect(hosts.a.process!.exitCode).toBe(null);
    await hosts.clear();
    await until('nothing is left', () => hosts.a.files('guests').length === 0 || undefined);
    expect(hosts.violations()).toEqual([]);
  });

  const hello = async (): Promise<Line> => {
    const line = await Line.open(a, mallory);
    line.say({ id: 1, do: 'hello', with: { versions: [1] } });
    expect((await line.answer(1)).ok).toMatchObject({ version: 1 });
    return line;
  };
  const opening = (changes: object = {}) => ({
    handover: randomUUID(),
    versions: [1, 2, 3, 4],
    name: `m${randomUUID()}`,
    uuid: randomUUID(),
    vcpus: 1,
    memoryKib: 8192,
    paused: false,
    key: 'ab'.repeat(32),
    ...changes,
  });

  it('gets no verb of the control protocol, and no answer before it has greeted', async () => {
    const line = await Line.open(a, mallory);
    line.say({ id: 1, do: 'clock', with: {} });
    expect((await line.answer(1)).error?.code).toBe('usage');
    line.say({ id: 2, do: 'hello', with: { versions: [1] } });
    await line.answer(2);
    for (const [i, verb] of [
      'list',
      'create',
      'destroy',
      'settle',
      'migrate',
      'toString',
      '__proto__',
      'constructor',
    ].entries()) {
      line.say({ id: 10 + i, do: verb, with: { guest: '1' } });
      expect((await line.answer(10 + i)).error?.code, verb).toBe('not-trusted');
    }
    line.socket.destroy();
  });

  it('is disconnected for invalid or endless lines; slow ones wait and delay nobody', async () => {
    for (const garbage of ['\0\0\0\n', 'not json\n', '[]x\n', '7\n', 'null\n', 'x'.repeat(5 << 20)]) {
      const line = await hello();
      line.say(garbage);
      await line.ended();
    }
    const slow = await hello();
    for (const c of '{"id":5,"do":"ping"') slow.say(c);
    await new Promise((done) => setTimeout(done, 50));
    expect(await hosts.a.list()).toEqual([]);
    slow.say(',"with":{}}\n');
    expect((await slow.answer(5)).ok).toBe(null);
    slow.socket.destroy();
    // It may answer requests in any way.
    const line = await hello();
    for (const error of [null, 7, [], {}, { code: 'x', message: 3 }])
      for (let id = 0; id < 5; id++) line.say({ id, error });
    line.say({ id: 9, do: 'ping', with: null });
    expect((await line.answer(9)).ok).toBe(null);
    line.socket.destroy();
  });

  it('may not open moves that are invalid, open already, or too many', async () => {
    const line = await hello();
    const wrong = [
      { handover: '../../../etc/passwd' },
      { name: 7 },
      { name: 'x'.repeat(10_000) },
      { name: '3' },
      { name: 'a\x1b[2J' },
      { name: randomUUID() },
      { uuid: 'u' },
      { vcpus: 0 },
      { vcpus: 1e9 },
      { memoryKib: -1 },
      { memoryKib: 2 ** 60 },
      { memoryKib: 1.5 },
      { versions: 'all' },
      { versions: [99] },
      { key: 'short' },
      { key: undefined },
    ];
    for (const [i, changes] of wrong.entries()) {
      line.say({ id: 100 + i, do: 'moveOpen', with: opening(changes) });
      expect((await line.answer(100 + i)).error, JSON.stringify(changes)).toBeDefined();
    }
    expect(hosts.a.files('guests')).toEqual([]);
    const once = opening();
    line.say({ id: 200, do: 'moveOpen', with: once });
    expect((await line.answer(200)).ok).toBeDefined();
    line.say({ id: 201, do: 'moveOpen', with: once });
    expect((await line.answer(201)).error?.code).toMatch(/bad-state|name-taken/);
    for (let i = 0; i < 40; i++) line.say({ id: 300 + i, do: 'moveOpen', with: opening() });
    let refused = 0;
    for (let i = 0; i < 40; i++) {
      const { error } = await line.answer(300 + i);
      if (error !== undefined) refused++;
    }
    expect(refused).toBeGreaterThanOrEqual(25);
    expect(hosts.a.files('guests').length).toBeLessThanOrEqual(16);
    // Everything that it had begun ends with it.
    line.socket.destroy();
    await until('its guests are gone', () => hosts.a.files('guests').length === 0 || undefined);
  }, 120_000);

  it('decides nothing about a move between two others, whatever it says and however often', async () => {
    const { name } = await hosts.guest();
    hosts.gate('attach');
    const outcome = hosts.a.ask('migrate', { guest: name, host: 'B', maxDowntimeMs: 1000 });
    await hosts.reached('attach');
    const [file] = hosts.a.files('handovers');
    const { handover } = JSON.parse(readFileSync(join(hosts.a.dir, 'handovers', file), 'utf8'));
    const line = await hello();
    for (const message of [
      'ready',
      'accepted',
      'refused',
      'forgotten',
      'offer',
      'cancel',
      'ask',
      'forget',
      'guest-died',
      'abort',
    ])
      for (let i = 0; i < 3; i++) line.say({ do: 'move', with: { handover, message } });
    line.say({ id: 2, do: 'ping', with: {} });
    await line.answer(2);
    hosts.openGate('attach');
    await outcome;
    expect((await hosts.settled(name)).on).toBe('B');
    line.socket.destroy();
  });

  /** A host M to which A migrates a guest; `play` is what M does. */
  const listen = async (play: (line: Rpcish, request: Request) => void, greets = true): Promise<void> => {
    const server = tls.createServer(
      {
        key: mallory.key,
        cert: mallory.certificate,
        ca: a.certificate,
        requestCert: true,
        minVersion: 'TLSv1.3',
      },
      (socket) => {
        let held = '';
        socket.on('error', () => {});
        const say = (message: object | string): void =>
          void socket.write(typeof message === 'string' ? message : `${JSON.stringify(message)}\n`);
        socket.on('data', (bytes) => {
          if (!greets) return void socket.destroy();
          const lines = (held + bytes.toString('utf8')).split('\n');
          held = lines.pop()!;
          for (const one of lines) {
            const request = JSON.parse(one);
            if (request.do === 'hello') say({ id: request.id, ok: { version: 1, name: 'M' } });
            else if (request.do === 'clock') say({ id: request.id, ok: Date.now() * 1e6 });
            else play({ say, end: () => socket.destroy() }, request);
          }
        });
      },
    );
    servers.push(server);
    await new Promise<void>((done) => server.listen(M_PORT, '127.0.0.1', done));
  };
  interface Rpcish {
    say(message: object | string): void;
    end(): void;
  }
  interface Request {
    readonly id?: number;
    readonly do?: string;
    readonly with: Record<string, string>;
  }

  const answers: [string, unknown][] = [
    ['nothing at all', null],
    ['a port that is none', { version: 1, port: 'ssh', host: '' }],
    ['a version that was not offered', { version: -1, port: 80, host: '' }],
    ['a port where nobody is', { version: 1, port: 1, host: '' }],
    ['a host that is no name', { version: 1, port: 80, host: { toString: 1 } }],
  ];
  it.each(answers)('that answers a move with %s does not get the guest', async (_, ok) => {
    await listen((line, { id, do: method }) => {
      if (method === 'moveOpen') line.say({ id, ok });
    });
    const { name } = await hosts.guest();
    await expect(hosts.a.ask('migrate', { guest: name, host: 'M' })).rejects.toThrow('goes on here');
    expect((await hosts.settled(name)).on).toBe('A');
  });

  it('that closes the connection before its greeting leaves the guest and the daemon as they were', async () => {
    await listen(() => {}, false);
    const { name } = await hosts.guest();
    for (let i = 0; i < 3; i++)
      await expect(hosts.a.ask('migrate', { guest: name, host: 'M' })).rejects.toThrow('goes on here');
    expect((await hosts.settled(name)).on).toBe('A');
  });

  it('that reports a commit before anything was offered does not get the guest', async () => {
    await listen((line, { id, do: method, with: params }) => {
      if (method !== 'moveOpen') return;
      const { handover } = params;
      for (const message of ['accepted', 'sent', 'ready', 'stopping', 'accepted', 'forgotten', 'retry'])
        line.say({ do: 'move', with: { handover, message, domid: 'x', started: 'never', reason: { a: 1 } } });
      line.say({ id, ok: { version: 1, port: 1, host: '' } });
    });
    const { name } = await hosts.guest();
    await expect(hosts.a.ask('migrate', { guest: name, host: 'M' })).rejects.toThrow('goes on here');
    expect((await hosts.settled(name)).on).toBe('A');
  });

  it('that closes the connection, or floods it, in the middle of a move leaves the guest where it was', async () => {
    const random = new Random(7);
    await listen((line, { id, do: method, with: params }) => {
      if (method !== 'moveOpen') return;
      for (let i = 0; i < 200; i++)
        line.say({
          do: 'move',
          with: { handover: params.handover, message: random.pick(['ready', 'forgotten', '', 'x']) },
        });
      if (random.below(2) === 0) line.say('x'.repeat(6 << 20));
      line.say({ id, error: null });
      line.end();
    });
    const { name } = await hosts.guest();
    for (let i = 0; i < 3; i++)
      await expect(hosts.a.ask('migrate', { guest: name, host: 'M' })).rejects.toThrow('goes on here');
    expect((await hosts.settled(name)).on).toBe('A');
    expect(readFileSync(join(hosts.a.dir, 'daemon.log'), 'utf8')).toMatch(/hand-over/);
  });

  it('is refused with a certificate that is expired, not yet valid or not trusted, and without one', async () => {
    const now = Date.now();
    const expired = await certificate(new Date(now - 2 * DAY), new Date(now - DAY));
    const early = await certificate(new Date(now + DAY), new Date(now + 2 * DAY));
    const stranger = await certificate(new Date(now - DAY), new Date(now + DAY));
    const good = await certificate(new Date(now - DAY), new Date(now + DAY));
    trust(hosts.a.dir, 'expired', expired.certificate, '', ['move']);
    trust(hosts.a.dir, 'early', early.certificate, '', ['move']);
    trust(hosts.a.dir, 'good', good.certificate, '', ['move']);
    for (const as of [expired, early, stranger, undefined]) {
      const line = await Line.open(a, as);
      line.say({ id: 1, do: 'hello', with: { versions: [1] } });
      await line.ended();
      expect(line.text).toBe('');
    }
    const line = await Line.open(a, good);
    line.say({ id: 1, do: 'hello', with: { versions: [1] } });
    expect((await line.answer(1)).ok).toMatchObject({ version: 1 });
    line.socket.destroy();
  });
});
