/**
 * The server of `stillpoint switch`. Each connection is a port: either with plain frames, as QEMU's `-netdev stream`
 * sends them, or with offloads, as our own links do. Uplinks are links of ours that become ports.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { CLAIM_HELLO, type LinkClaim, MAX_CLAIM_BYTES, OFFLOAD_HELLO, readClaim } from '../framing.js';
import type { LinkClient, NetLink } from '../link.js';
import { parseMac } from '../mac.js';
import { parseIp, SourceFilter } from '../source-filter.js';
import { LearningSwitch, type PortGuard, type SwitchPort } from '../switch.js';
import type { SocketAddress } from './address.js';
import { FrameStream } from './frame-stream.js';

/** How many bytes may wait for one port. Beyond that, frames to it are dropped. */
const PORT_LIMIT_BYTES = 1_048_576;
const MAX_PORTS = 256;
const AGE_EVERY_MS = 10_000;
const CLOSE_TIMEOUT_MS = 200;
/**
 * How long a connection may say nothing, in ms. Our own links send a hello at once. After this time the connection
 * counts as one with plain frames that may only listen so far.
 */
const SILENT_MS = 1000;

/** Opens an uplink's link for the given client. */
type OpenUplink = (client: LinkClient) => Promise<NetLink>;

export class SwitchServer {
  readonly fabric = new LearningSwitch(() => performance.now());
  private readonly servers: Server[] = [];
  private readonly streams = new Set<FrameStream>();
  private readonly sockets = new Set<Socket>();
  private readonly uplinks: NetLink[] = [];
  private readonly ageing = setInterval(() => this.fabric.age(), AGE_EVERY_MS);
  private count = 0;

  constructor(private readonly log: (line: string) => void) {}

  /**
   * Starts to listen and resolves with the port (0 for a unix socket). `mode` is the mode of a unix socket's file.
   * `open` marks ports to other switches, behind which addresses come and go.
   */
  async listen(at: SocketAddress, mode: number, open = false): Promise<number> {
    if ('path' in at) await removeStale(at.path);
    const server = createServer((socket) => this.accept(socket, open));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(at, resolve);
    });
    // If a connection cannot be accepted, for example for lack of file descriptors, the server goes on.
    server.on('error', (error) => this.log(`a connection could not be taken: ${error.message}`));
    if ('path' in at) chmodSync(at.path, mode);
    this.servers.push(server);
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async uplink(open: OpenUplink): Promise<void> {
    let link: NetLink | undefined;
    let port: SwitchPort | undefined;
    link = await open({
      receive: (frame) => port !== undefined && this.fabric.forward(port, frame),
      received: () => this.fabric.flush(),
      drained: () => {},
      linkChanged: (up) => link !== undefined && this.log(`uplink ${link.name} is ${up ? 'up' : 'down'}`),
    });
    // A link has everything that a port needs, so it serves as the port.
    port = link;
    this.uplinks.push(link);
    this.fabric.attach(link);
  }

  private accept(socket: Socket, open: boolean): void {
    socket.on('error', () => {});
    if (this.streams.size >= MAX_PORTS) {
      this.log(`more than ${MAX_PORTS} ports: a connection was refused`);
      socket.destroy();
      return;
    }
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    let got = Buffer.alloc(0);
    const silent = setTimeout(() => begin(got, false), SILENT_MS);
    const begin = (rest: Buffer, ours: boolean, claim?: LinkClaim): void => {
      clearTimeout(silent);
      socket.off('data', first);
      if (socket.destroyed) return;
      if (ours) socket.write(claim === undefined ? OFFLOAD_HELLO : CLAIM_HELLO);
      this.port(socket, ours, rest, open ? { kind: 'open' } : guardOf(claim));
    };
    const first = (chunk: Buffer): void => {
      got = Buffer.concat([got, chunk]);
      const beginsAs = (hello: Uint8Array): boolean =>
        got.subarray(0, hello.length).compare(hello.subarray(0, got.length)) === 0;
      if (beginsAs(CLAIM_HELLO) && got.length > CLAIM_HELLO.length) {
        const from = CLAIM_HELLO.length + 2;
        const end = got.length < from ? Number.POSITIVE_INFINITY : from + got.readUInt16BE(from - 2);
        if (end > from + MAX_CLAIM_BYTES && end < Number.POSITIVE_INFINITY) socket.destroy();
        if (got.length < end) return;
        try {
          begin(got.subarray(end), true, readClaim(got.subarray(from, end)));
        } catch (error) {
          this.log(`a connection was refused: ${(error as Error).message}`);
          clearTimeout(silent);
          socket.destroy();
        }
      } else if (beginsAs(OFFLOAD_HELLO) && got.length >= OFFLOAD_HELLO.length)
        begin(got.subarray(OFFLOAD_HELLO.length), true);
      else if (!beginsAs(OFFLOAD_HELLO) && !beginsAs(CLAIM_HELLO)) begin(got, false);
    };
    socket.on('data', first);
  }

  private port(socket: Socket, offloads: boolean, rest: Uint8Array, guard: PortGuard): void {
    const name = `port ${++this.count}`;
    const stream: FrameStream = new FrameStream(socket, offloads, PORT_LIMIT_BYTES, {
      receive: (frame) => this.fabric.forward(port, frame),
      received: () => this.fabric.flush(),
      drained: () => {},
      closed: (why) => {
        this.streams.delete(stream);
        this.fabric.detach(port);
        this.log(`${name} left${why === '' ? '' : `: ${why}`}`);
      },
    });
    const port: SwitchPort = {
      name,
      offloads,
      get writable() {
        return stream.writable;
      },
      send: (frame) => stream.send(frame),
      flush: () => stream.flush(),
    };
    this.streams.add(stream);
    this.fabric.attach(port, guard);
    this.log(`${name} joined${offloads ? '' : ' (plain frames)'}`);
    if (rest.length > 0) stream.take(rest);
  }

  async close(): Promise<void> {
    clearInterval(this.ageing);
    for (const server of this.servers) server.close();
    await Promise.all([
      ...[...this.streams].map((stream) => stream.close(CLOSE_TIMEOUT_MS)),
      ...this.uplinks.map((link) => link.close()),
    ]);
    for (const socket of this.sockets) socket.destroy();
  }
}

function guardOf(claim: LinkClaim | undefined): PortGuard {
  if (claim === undefined) return { kind: 'plain' };
  const ips = claim.ips.map(parseIp).filter((ip) => ip !== undefined);
  return { kind: 'claimed', filter: new SourceFilter(parseMac(claim.mac), ips), token: claim.token };
}

/** Removes the file of a socket on which nobody listens any more. Rejects if somebody does. */
async function removeStale(path: string): Promise<void> {
  const alive = await new Promise<boolean>((resolve) => {
    const socket = createConnection({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
  if (alive) throw new Error(`${path}: somebody listens there already`);
  rmSync(path, { force: true });
}
