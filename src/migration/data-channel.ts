/**
 * The connection that carries a guest's memory directly from one guest process to the other.
 *
 * Invariant: both ends prove that they know the one-time key of this move, which was sent over the daemons' own
 * connection. Guest processes never see a host's key. The connection uses TLS 1.3 with that pre-shared key and a
 * fresh Diffie-Hellman exchange (RFC 8446, section 2.2). It is unencrypted only on loopback, and only if the daemons
 * were told so.
 */
import { rmSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { Doorkeeper, type DoorLimits } from '../os/doorkeeper.js';
import { within } from '../os/within.js';
import { type StreamSink, WRITES_UNDER_WAY } from './stream-writer.js';

/** How the other end is found and recognised. */
export interface DataAddress {
  /** A unix socket instead of host and port, for save and restore. The guest's process listens on it in both cases. */
  readonly path?: string;
  readonly host: string;
  readonly port: number;
  /** The name of the move. It is not a secret. */
  readonly identity: string;
  /** 32 random bytes as hexadecimal digits, used once. Undefined: the connection is not encrypted. */
  readonly key?: string;
}

const CIPHER = 'TLS_AES_128_GCM_SHA256';
/** A peer that connects and says nothing is disconnected after this time, in ms. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

const DOOR_LIMITS: DoorLimits = {
  greetingMs: HANDSHAKE_TIMEOUT_MS,
  unknown: 32,
  unknownPerAddress: 8,
  known: 1,
  knownPerPeer: 1,
};

/** Waits for one connection whose peer knows the key. Other connections are closed and have no effect. */
export class DataListener {
  private readonly server: net.Server;
  private readonly accepted: Promise<net.Socket>;

  private constructor(
    server: net.Server,
    event: string,
    /** Undefined on a unix socket, because the permissions of its directory decide who may connect. */
    private readonly door: Doorkeeper | undefined,
  ) {
    this.server = server;
    this.accepted = new Promise((resolve, reject) => {
      server.once(event, (socket: net.Socket) => {
        this.door?.known(socket, 'the sender');
        this.close();
        resolve(socket);
      });
      server.once('error', reject);
      // From now on, a connection that cannot be accepted (for example for lack of file descriptors) is not the
      // awaited one.
      server.on('error', () => {});
      server.once('close', () => reject(new Error('no connection for the data of this move')));
    });
    this.accepted.catch(() => {});
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    server.prependListener('connection', (socket) => this.door?.admit(socket));
  }

  /** Listens on `path`, or on `host` and the first free port of `ports`; port 0 means any port. */
  static async listen(address: Omit<DataAddress, 'port'>, ports: readonly number[]): Promise<DataListener> {
    for (const port of ports) {
      try {
        return await DataListener.on({ ...address, port });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      }
    }
    throw new Error(`no port of ${ports.join(', ')} is free for the data of a guest`);
  }

  private static async on(address: DataAddress): Promise<DataListener> {
    const { path, host, port, identity, key } = address;
    const server =
      key === undefined
        ? net.createServer()
        : tls.createServer({
            minVersion: 'TLSv1.3',
            ciphers: CIPHER,
            handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
            pskCallback: (_socket, offered) => (offered === identity ? Buffer.from(key, 'hex') : null),
          });
    const door = path === undefined ? new Doorkeeper(DOOR_LIMITS) : undefined;
    const listener = new DataListener(server, key === undefined ? 'connection' : 'secureConnection', door);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path === undefined ? { host, port } : { path }, () => resolve());
    });
    return listener;
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  connection(): Promise<net.Socket> {
    return this.accepted;
  }

  close(): void {
    this.server.close();
    this.door?.close();
  }
}

/** The sender's end: connects to a DataListener, or waits on a unix socket for the one who takes the data. */
export function openData(address: DataAddress): Promise<net.Socket> {
  return address.path === undefined ? connectData(address) : offerData(address);
}

async function offerData(address: DataAddress): Promise<net.Socket> {
  rmSync(address.path!, { force: true });
  const listener = await DataListener.listen(address, [0]);
  const timer = setTimeout(() => listener.close(), HANDSHAKE_TIMEOUT_MS);
  return listener.connection().finally(() => clearTimeout(timer));
}

function connectData(address: DataAddress): Promise<net.Socket> {
  const { host, port, identity, key } = address;
  const where = { host, port };
  return new Promise((resolve, reject) => {
    const socket =
      key === undefined
        ? net.connect(where, () => resolve(socket))
        : tls.connect(
            {
              ...where,
              minVersion: 'TLSv1.3',
              ciphers: CIPHER,
              pskCallback: () => ({ psk: Buffer.from(key, 'hex'), identity }),
              // The key proves the identity; there is no certificate.
              checkServerIdentity: () => undefined,
            },
            () => resolve(socket),
          );
    socket.setNoDelay(true);
    // The timer runs until both sides have proved their identity: the kernel accepts a connection even for a process
    // that hangs.
    const timer = setTimeout(
      () => socket.destroy(new Error(`no answer from ${host}:${port}`)),
      HANDSHAKE_TIMEOUT_MS,
    );
    socket.once(key === undefined ? 'connect' : 'secureConnect', () => clearTimeout(timer));
    socket.once('close', () => clearTimeout(timer));
    socket.once('error', reject);
  });
}

/**
 * Writes to a socket as fast as it accepts bytes. At most WRITES_UNDER_WAY writes are in progress at once. Fails if
 * one of them is not accepted within `answerMs`.
 */
export function socketSink(socket: net.Socket, answerMs = Number.POSITIVE_INFINITY): StreamSink {
  const underWay: Promise<void>[] = [];
  return async (bytes) => {
    const write = new Promise<void>((resolve, reject) => {
      socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
    write.catch(() => {});
    underWay.push(write);
    const first = underWay.length > WRITES_UNDER_WAY ? underWay.shift() : undefined;
    if (first !== undefined) await taken(first, answerMs);
  };
}

/** Waits, with a limit, until the other side has accepted what was sent. */
export function taken(what: Promise<void>, answerMs: number): Promise<void> {
  if (!Number.isFinite(answerMs)) return what;
  return within(what, answerMs, `the destination took no data for ${answerMs / 1000} s`);
}
