/**
 * The server on a unix socket. Every client has the rights of one domain; of domain 0, as on xenstored's socket, if no
 * other is named.
 *
 * Invariant: from a client that does not take its answers, first no more requests are read; then it is disconnected.
 * It never makes the server hold more than `outputLimit` bytes.
 */
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Connection, Transport } from '../server/connection.js';
import type { XenstoreServer } from '../server/server.js';

export interface SocketOptions {
  /** Called before answers are sent: what they acknowledge must be durable when it returns. */
  readonly beforeSend?: () => void;
  /** Whether this client is accepted. Undefined: all are. */
  readonly admit?: (socket: Socket) => boolean;
  /** The domain whose rights the clients have, as if each were that domain's ring. 0 by default. */
  readonly domid?: number;
}

class SocketTransport implements Transport {
  private leftover: Buffer | undefined;

  constructor(
    private readonly server: XenstoreServer,
    private readonly connection: Connection,
    private readonly socket: Socket,
    private readonly beforeSend: () => void,
    private readonly soon: () => void,
  ) {
    connection.transport = this;
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('drain', () => this.drained());
    socket.on('close', () => server.disconnect(connection));
    // The event 'close' reports this too. A client may go at any time.
    socket.on('error', () => {});
  }

  flush(): void {
    if (this.socket.destroyed || this.socket.writableNeedDrain) return;
    const { output } = this.connection;
    if (output.bytes > 0) {
      this.beforeSend();
      this.socket.write(output.drain());
    }
    // Answers that the client has not taken stay in the socket, and the client's further requests wait. Otherwise
    // reading continues.
    if (this.socket.writableNeedDrain) this.socket.pause();
    else if (this.leftover !== undefined) setImmediate(() => this.receive(EMPTY));
  }

  resume(): void {
    this.receive(EMPTY);
  }

  fail(): void {
    this.socket.destroy();
  }

  private receive(chunk: Buffer): void {
    const bytes = this.leftover === undefined ? chunk : Buffer.concat([this.leftover, chunk]);
    const end = this.socket.writableNeedDrain
      ? 0
      : this.server.receive(this.connection, bytes, 0, bytes.length);
    this.leftover = end < bytes.length ? bytes.subarray(end) : undefined;
    if (this.leftover === undefined) this.socket.resume();
    else this.socket.pause();
    this.soon();
  }

  private drained(): void {
    this.flush();
    this.receive(EMPTY);
  }
}

const EMPTY = Buffer.alloc(0);

export class SocketServer {
  private readonly listener: Server;
  private readonly sockets = new Set<Socket>();
  private settling = false;

  private constructor(
    private readonly server: XenstoreServer,
    options: SocketOptions,
  ) {
    const soon = (): void => {
      // This runs once after all clients that sent something in this turn, so that a journal is written once for all
      // of them.
      if (this.settling) return;
      this.settling = true;
      setImmediate(() => {
        this.settling = false;
        server.settle();
      });
    };
    this.listener = createServer((socket) => {
      if (options.admit?.(socket) === false) {
        socket.destroy();
        return;
      }
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
      const connection = server.connect('socket', options.domid ?? 0);
      new SocketTransport(server, connection, socket, options.beforeSend ?? (() => {}), soon);
    });
  }

  /** Listens at `path`, which only this user may access. A socket that a dead server has left there is replaced. */
  static async listen(
    server: XenstoreServer,
    path: string,
    options: SocketOptions = {},
  ): Promise<SocketServer> {
    await removeDead(path);
    const self = new SocketServer(server, options);
    await new Promise<void>((resolve, reject) => {
      self.listener.once('error', reject);
      self.listener.listen({ path, backlog: 511 }, resolve);
    });
    // If a connection cannot be accepted, for example for lack of file descriptors, the server goes on.
    self.listener.on('error', () => {});
    await chmod(path, 0o600);
    return self;
  }

  /** Disconnects all clients after what was acknowledged has been sent, and removes the socket. */
  async close(): Promise<void> {
    this.server.settle();
    const closed = new Promise<void>((resolve) => this.listener.close(() => resolve()));
    for (const socket of this.sockets) socket.end(() => socket.destroy());
    setTimeout(() => {
      for (const socket of this.sockets) socket.destroy();
    }, 1000).unref();
    await closed;
  }
}

/** Throws if there is something else than a socket, or if a server answers there. */
async function removeDead(path: string): Promise<void> {
  const there = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (there === undefined) return;
  if (!there.isSocket()) throw new Error(`${path} exists and is not a socket`);
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (alive) throw new Error(`another server listens at ${path}`);
  await unlink(path);
}
