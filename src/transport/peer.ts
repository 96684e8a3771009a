/**
 * The connection from one daemon to another, and from a remote command line to a daemon: mutual TLS 1.3 with pinned
 * certificates, or plain TCP on loopback if both sides were started with that option.
 */
import net from 'node:net';
import tls from 'node:tls';
import type { Doorkeeper } from '../os/doorkeeper.js';
import { Failure } from '../protocol/failure.js';
import { type ByteStream, Rpc, type RpcClock, type RpcHandlers } from '../protocol/rpc.js';
import { keepAlive, PROTOCOL_VERSIONS, SESSION } from '../protocol/session.js';
import { ask } from '../protocol/table.js';
import { fingerprintOf, type Identity, type Trusted } from './identity.js';

const CONNECT_TIMEOUT_MS = 5_000;

export interface PeerAddress {
  /** Name under which it is trusted; "" on plain loopback. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** This host itself, as the destination of a guest that moves into another process here. */
export const OWN_HOST = 'localhost';
export const OWN_ADDRESS: PeerAddress = { name: OWN_HOST, host: '', port: 0 };
/** Stands for the fingerprint of this host on a connection of it to itself. */
export const OWN = 'this host';
export const isOwnAddress = ({ name, host, port }: PeerAddress): boolean =>
  name === OWN_HOST && host === '' && port === 0;

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host) || host === '::ffff:127.0.0.1';

/** Parses "HOST:PORT" or "[V6]:PORT". */
export function parseAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new Failure('usage', `HOST:PORT expected, found ${text}`);
  return { host: match[1] ?? match[2], port };
}

/** Finds a host by the name under which it is trusted, or by its address. */
export function resolvePeer(wanted: string, trusted: readonly Trusted[], plain: boolean): PeerAddress {
  const named = trusted.find((t) => t.name === wanted);
  if (named === undefined && wanted === OWN_HOST) return OWN_ADDRESS;
  if (named !== undefined) {
    if (named.address === '') {
      throw new Failure(
        'usage',
        `${wanted} is trusted without an address (host trust ... --address HOST:PORT)`,
      );
    }
    return { name: named.name, ...parseAddress(named.address) };
  }
  if (!wanted.includes(':')) throw new Failure('not-trusted', `no host ${wanted} is trusted here`);
  const address = parseAddress(wanted);
  const known = trusted.find((t) => t.address === wanted);
  if (known !== undefined) return { name: known.name, ...address };
  if (plain && isLoopback(address.host)) return { name: '', ...address };
  throw new Failure('not-trusted', `no host is trusted at ${wanted} (host trust ... --address ${wanted})`);
}

/** Connects and sends the greeting. If `identity` is undefined the connection is plain, on loopback only. */
export function openPeer(
  peer: PeerAddress,
  identity: Identity | undefined,
  trusted: readonly Trusted[],
): Promise<net.Socket> {
  const { name, host, port } = peer;
  return new Promise<net.Socket>((resolve, reject) => {
    const entry = trusted.find((t) => t.name === name);
    let socket: net.Socket;
    if (name === '') {
      if (!isLoopback(host)) throw new Failure('not-trusted', 'plain connections are for loopback only');
      socket = net.connect({ host, port }, () => resolve(socket));
    } else {
      if (entry === undefined) throw new Failure('not-trusted', `no host ${name} is trusted here`);
      if (identity === undefined) throw new Failure('not-trusted', 'this host has no key yet (host init)');
      const secure = tls.connect(
        {
          host,
          port,
          key: identity.key,
          cert: identity.certificate,
          ca: entry.certificate,
          minVersion: 'TLSv1.3',
          // Pinned: exactly this certificate is accepted, whatever its subject.
          checkServerIdentity: (_name, cert) =>
            fingerprintOf(cert.raw) === entry.fingerprint
              ? undefined
              : new Error('not the trusted certificate'),
        },
        () => resolve(secure),
      );
      socket = secure;
    }
    socket.setNoDelay(true);
    // The timer runs until the handshake is complete: a host that hangs accepts a connection and then sends nothing.
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), CONNECT_TIMEOUT_MS);
    socket.once(name === '' ? 'connect' : 'secureConnect', () => clearTimeout(timer));
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(
        new Failure(
          /certificate/i.test(error.message) ? 'not-trusted' : 'io',
          `${name || `${host}:${port}`}: ${error.message}`,
        ),
      );
    });
  });
}

/**
 * Waits for the answer to the greeting; if the other side closes the connection instead, the error says what that
 * means.
 */
export async function greeted<T>({ name, host, port }: PeerAddress, greeting: Promise<T>): Promise<T> {
  try {
    return await greeting;
  } catch (error) {
    // With TLS 1.3, a server that rejects our certificate does so after our side of the handshake is complete.
    if (error instanceof Failure && error.code === 'io') {
      throw new Failure(
        'not-trusted',
        `${name || `${host}:${port}`} closed the connection: does it trust this host?`,
      );
    }
    throw error;
  }
}

/** Connects and sends the greeting, as one daemon does to another. */
export async function connectPeer(
  peer: PeerAddress,
  identity: Identity | undefined,
  trusted: readonly Trusted[],
  handlers: RpcHandlers,
): Promise<Rpc> {
  return greet(await openPeer(peer, identity, trusted), peer, handlers);
}

/**
 * Sends the greeting to the host at the other end of a connection. If `clock` is undefined, this machine's is used.
 */
export async function greet(
  stream: ByteStream,
  peer: PeerAddress,
  handlers: RpcHandlers,
  clock?: RpcClock,
): Promise<Rpc> {
  const rpc = new Rpc(stream, handlers, clock);
  try {
    await greeted(peer, ask(rpc, SESSION, 'hello', { versions: PROTOCOL_VERSIONS }, CONNECT_TIMEOUT_MS));
  } catch (error) {
    rpc.destroy();
    throw error;
  }
  keepAlive(rpc);
  return rpc;
}

/** An incoming connection. */
export interface Caller {
  readonly rpc: Rpc;
  /** Fingerprint of the caller's certificate; "" on plain loopback and on the unix socket. */
  readonly fingerprint: string;
}

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  readonly plainLoopback: boolean;
  readonly identity: Identity | undefined;
  readonly door: Doorkeeper;
  trusted(): readonly Trusted[];
  /** A connection could not be accepted, for example because no descriptor was left. */
  failed(error: Error): void;
}

/**
 * Listens for other hosts and remote command lines. Invariant: no connection, whatever happens to it, ends the
 * server; a client that does not greet in time is disconnected (doorkeeper.ts).
 */
export function listenForPeers(
  options: ListenOptions,
  accept: (socket: net.Socket, fingerprint: string | undefined) => void,
): Promise<net.Server> {
  const { host, port, plainLoopback, identity, door } = options;
  let server: net.Server;
  if (plainLoopback) {
    if (!isLoopback(host))
      throw new Failure('usage', '--plain-loopback needs a loopback address to listen on');
    server = net.createServer((socket) => {
      socket.setNoDelay(true);
      accept(socket, undefined);
    });
  } else {
    if (identity === undefined)
      throw new Failure('bad-state', 'this host has no key yet (stillpoint host init)');
    const context = (): tls.SecureContextOptions => ({
      key: identity.key,
      cert: identity.certificate,
      ca: options.trusted().map((t) => t.certificate),
      minVersion: 'TLSv1.3',
    });
    const secure = tls.createServer(
      { ...context(), requestCert: true, rejectUnauthorized: true, handshakeTimeout: CONNECT_TIMEOUT_MS },
      (socket) => {
        socket.setNoDelay(true);
        const raw = socket.getPeerCertificate().raw;
        const entry = options
          .trusted()
          .find((t) => raw !== undefined && t.fingerprint === fingerprintOf(raw));
        if (entry === undefined) socket.destroy();
        else accept(socket, entry.fingerprint);
      },
    );
    secure.on('tlsClientError', (_error, socket) => socket.destroy());
    // The list of trusted hosts may have changed since the last connection.
    let trusted = options.trusted();
    secure.prependListener('connection', () => {
      if (options.trusted() === trusted) return;
      trusted = options.trusted();
      secure.setSecureContext(context());
    });
    server = secure;
  }
  server.prependListener('connection', (socket) => door.admit(socket));
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      server.on('error', (error) => options.failed(error));
      resolve(server);
    });
  });
}
