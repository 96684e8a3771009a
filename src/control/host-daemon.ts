/**
 * `stillpoint host`: the daemon of one host. It listens on a unix socket in its directory for clients on this
 * machine, and on TCP for other hosts. Before it listens, it settles what an earlier daemon left.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { HostPlatform } from '../host/platform.js';
import { sleep } from '../os/clock.js';
import { DOOR_LIMITS, Doorkeeper } from '../os/doorkeeper.js';
import { readOrSetAside, writeSynced } from '../os/durable.js';
import { type Libc, loadLibc } from '../os/libc.js';
import { CONTROL } from '../protocol/control.js';
import { Failure } from '../protocol/failure.js';
import { PEER, TO_DESTINATION } from '../protocol/peer.js';
import { printable } from '../protocol/printable.js';
import type { ByteStream, Rpc, RpcHandlers } from '../protocol/rpc.js';
import { CONTROL_KEY, CONTROL_SOCKET } from '../protocol/session.js';
import type { Right } from '../protocol/table.js';
import { listener } from '../protocol/table.js';
import { loadIdentity, TrustedHosts } from '../transport/identity.js';
import {
  type Caller,
  greet,
  isOwnAddress,
  listenForPeers,
  OWN,
  type PeerAddress,
} from '../transport/peer.js';
import { serveConnection } from '../transport/serve.js';
import { control, peer as peerRequests } from './api/api.js';
import { type GuestCode, removeCode } from './code-store.js';
import { XENSTORE_SOCKET } from './control-files.js';
import { Domains } from './domains/domains.js';
import { sessionOf } from './domains/spawn.js';
import { readProcessId } from './domains/state-files.js';
import type { ConfiguredHost, HostConfig } from './host-config.js';
import { Moves } from './moves/moves.js';
import { systemWorld } from './system-world.js';
import type { World } from './world.js';

export interface HostOptions extends ConfiguredHost {
  readonly dir: string;
  readonly listen: { readonly host: string; readonly port: number } | undefined;
  readonly plainLoopback: boolean;
  readonly log: Logger;
  /** Default: this machine. */
  readonly world?: World;
  /** Start guests' processes also if they cannot be confined. */
  readonly unconfined?: boolean;
  /** The code of the guests' processes that it starts; the installed package by default. */
  readonly code?: GuestCode;
}

const MOVE_ONLY: ReadonlySet<Right> = new Set<Right>(['move']);
const ALL_RIGHTS: ReadonlySet<Right> = new Set<Right>(['move', 'control']);

/** How long the daemon waits for guests' processes before it starts to listen, ms. */
const RECOVERY_MS = 1_000;

/** How many characters of an unknown verb an error message quotes. */
const MAX_METHOD = 64;

/** True if a process listens on this socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

export class HostDaemon {
  readonly name: string;
  readonly dir: string;
  readonly config: HostConfig;
  readonly plain: boolean;
  readonly world: World;
  readonly platform: HostPlatform;
  readonly domains: Domains;
  readonly moves: Moves;
  private readonly servers: net.Server[] = [];
  readonly trusted: TrustedHosts;
  /** All connections of this daemon, each with the fingerprint of its peer, or undefined. */
  private readonly connections = new Map<Rpc, string | undefined>();
  private endXenstore: (() => Promise<void>) | undefined;
  private readonly controlKey = randomBytes(32).toString('hex');
  /** It cannot be found out whether another daemon runs in this directory. */
  private otherUnknown = false;
  private stopWatching: () => void = () => {};

  constructor(private readonly options: HostOptions) {
    const { dir, config, platform, plainLoopback, log } = options;
    this.world = options.world ?? systemWorld;
    this.name = platform.identity.name;
    this.platform = platform;
    this.dir = dir;
    this.config = config;
    this.plain = plainLoopback;
    this.trusted = new TrustedHosts(dir, (message) => log.error(message));
    this.lockDirectory();
    this.domains = new Domains({
      world: this.world,
      dir,
      config,
      platform: this.platform,
      log,
      unconfined: options.unconfined === true,
      code: options.code,
    });
    this.moves = new Moves({
      dir,
      domains: this.domains,
      log,
      listenHost: options.listen?.host ?? '127.0.0.1',
      plain: plainLoopback,
      connect: (peer, handlers) => this.connect(peer, handlers),
    });
    this.domains.moves = this.moves;
  }

  /** Only one daemon may use a directory: two would both own its guests. */
  private lockDirectory(): void {
    const { files, processes, self } = this.world;
    files.makeDirectory(this.dir);
    const path = join(this.dir, 'daemon.pid');
    const damaged = (message: string): void => {
      this.options.log.error(message);
      this.otherUnknown = true;
    };
    const other = readOrSetAside(path, readProcessId, damaged, files);
    if (other !== undefined && other.pid !== self.pid && processes.isAlive(other)) {
      throw new Failure('bad-state', `a daemon (process ${other.pid}) runs in ${this.dir} already`);
    }
    files.remove(path);
    // The file is complete before it gets its name, so that a power failure leaves no unreadable file.
    const made = `${path}.new`;
    writeSynced(made, JSON.stringify(self), files);
    try {
      files.link(made, path);
    } finally {
      files.remove(made);
    }
  }

  /** Settles what an earlier daemon left. */
  async recover(): Promise<void> {
    const recovered = this.moves.recover(await this.domains.recover());
    this.stopWatching = this.domains.watchDisk();
    this.domains.autostart.begin();
    // Domains whose processes answer are ready before clients can ask for them; the others do not delay the start.
    await Promise.race([recovered, sleep(this.world.clock, RECOVERY_MS)]);
  }

  /** Settles what an earlier daemon left, then listens. Resolves with the TCP port, or 0. */
  async start(): Promise<number> {
    const { dir, listen, log } = this.options;
    const path = join(dir, CONTROL_SOCKET);
    if (this.otherUnknown && (await answers(path)))
      throw new Failure('bad-state', `a daemon answers in ${dir} already`);
    await this.recover();
    const used = this.domains.usedCode();
    if (used !== undefined) removeCode(dir, used);
    rmSync(path, { force: true });
    const libc = await loadLibc();
    const admit = (socket: net.Socket): boolean => !this.isGuests(libc, socket);
    const control = net.createServer((socket) => {
      if (admit(socket)) this.accept(socket, undefined, () => true, this.controlKey);
      else socket.destroy();
    });
    rmSync(join(dir, CONTROL_KEY), { force: true });
    writeFileSync(join(dir, CONTROL_KEY), this.controlKey, { mode: 0o600, flag: 'wx' });
    await new Promise<void>((resolve, reject) => {
      control.once('error', reject);
      control.listen({ path }, resolve);
    });
    const failed = (error: Error): void =>
      log.error({ error: error.message }, 'a connection could not be taken');
    control.on('error', failed);
    chmodSync(path, 0o600);
    this.servers.push(control);
    this.endXenstore = await this.platform.toolstackStore.serve?.(join(dir, XENSTORE_SOCKET), admit);
    if (listen === undefined) return 0;
    const door = new Doorkeeper({ ...DOOR_LIMITS, greetingMs: this.config.greetingS * 1000 });
    const server = await listenForPeers(
      {
        ...listen,
        plainLoopback: this.plain,
        identity: loadIdentity(dir),
        trusted: () => this.trusted.all(),
        door,
        failed,
      },
      (socket, fingerprint) => this.accept(socket, fingerprint, () => door.known(socket, fingerprint ?? '')),
    );
    this.servers.push(server);
    return (server.address() as net.AddressInfo).port;
  }

  /**
   * True if a guest's process, or one that it has started, is at the other end: all of them are in one session, which
   * their sandbox does not let them leave. A client that has exited already counts as one, since nobody waits for an
   * answer.
   */
  private isGuests(libc: Libc | undefined, socket: net.Socket): boolean {
    // Types: Node does not declare a socket's handle, which knows its descriptor.
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    const pid = libc?.peerProcess(fd);
    // 0: the process is in another PID namespace, where there are no guests.
    if (pid === undefined || pid === 0) return false;
    const session = sessionOf(pid);
    if (session === undefined) return true;
    return [...this.domains.all.values()].some(({ state }) => state.process?.pid === session);
  }

  /**
   * `peer`: fingerprint of the connected host; undefined for a client on this machine and for plain loopback. `key`:
   * the key that the greeting must contain; undefined if none is needed.
   */
  accept(socket: ByteStream, peer: string | undefined, known: () => boolean, key?: string): void {
    const fingerprint = peer ?? '';
    const steps = listener(TO_DESTINATION, {
      move: ({ handover, message }) => this.moves.heard({ rpc, fingerprint }, handover, message),
    });
    const rpc: Rpc = serveConnection(
      socket,
      {
        name: this.name,
        checkKey: (shown) => {
          if (key !== undefined && !sameKey(shown, key))
            throw new Failure('not-trusted', `${CONTROL_KEY} of this daemon was not shown`);
        },
        known,
        // The other host sends keep-alive requests too, so each side notices when the other has gone silent.
        keptAlive: peer !== undefined || this.plain,
        rights: () => this.rightsOf(peer),
        request: (method, params, rights) => {
          const caller: Caller = { rpc, fingerprint };
          if (rights.has('control') && Object.hasOwn(CONTROL, method))
            return control(method, params, this, caller);
          if (rights.has('move') && Object.hasOwn(PEER, method))
            return peerRequests(method, params, this, caller);
          throw new Failure(
            'not-trusted',
            `${printable(method, MAX_METHOD)} is not allowed here, or unknown`,
          );
        },
        notice: steps,
        closed: (closed) => {
          this.connections.delete(closed);
          this.moves.cut(closed);
        },
      },
      this.world.clock,
    );
    this.connections.set(rpc, peer);
  }

  /** The rights that a peer has now; undefined if it is no longer trusted. */
  private rightsOf(peer: string | undefined): ReadonlySet<Right> | undefined {
    if (peer === undefined) return ALL_RIGHTS;
    if (peer === OWN) return MOVE_ONLY;
    const entry = this.trusted.all().find((t) => t.fingerprint === peer);
    return entry === undefined ? undefined : new Set(entry.allow);
  }

  /** The list of trusted hosts has changed: connections to and from hosts that are no longer trusted are closed. */
  trustChanged(): void {
    this.trusted.forget();
    const fingerprints = new Set(this.trusted.all().map((t) => t.fingerprint));
    for (const [rpc, peer] of this.connections)
      if (peer !== undefined && peer !== OWN && !fingerprints.has(peer)) rpc.destroy();
  }

  /** Connects to another host's daemon. */
  private async connect(peer: PeerAddress, handlers: RpcHandlers): Promise<Rpc> {
    const trusted = this.trusted.all();
    const own = isOwnAddress(peer);
    const fingerprint = own ? OWN : trusted.find((t) => t.name === peer.name)?.fingerprint;
    const noted: RpcHandlers = {
      ...handlers,
      closed: (rpc) => {
        this.connections.delete(rpc);
        handlers.closed?.(rpc);
      },
    };
    const rpc = own
      ? await this.connectSelf(peer, noted)
      : await this.world.hosts.connect(this.dir, peer, trusted, noted);
    if (!rpc.closed) this.connections.set(rpc, fingerprint);
    return rpc;
  }

  /** A connection to this daemon itself, without a network. */
  private connectSelf(peer: PeerAddress, handlers: RpcHandlers): Promise<Rpc> {
    const [ours, theirs] = this.world.hosts.toItself();
    this.accept(theirs, OWN, () => true);
    return greet(ours, peer, handlers, this.world.clock);
  }

  /** Stops listening. The guests' processes continue to run. */
  close(): void {
    for (const server of this.servers) server.close();
    void this.endXenstore?.();
    this.rest();
    rmSync(join(this.dir, XENSTORE_SOCKET), { force: true });
    rmSync(join(this.dir, CONTROL_SOCKET), { force: true });
    rmSync(join(this.dir, CONTROL_KEY), { force: true });
  }

  /** Ends what recover() started: the periodic checks stop and all connections are closed. */
  rest(): void {
    this.stopWatching();
    this.domains.autostart.close();
    for (const rpc of this.connections.keys()) rpc.destroy();
    this.world.files.remove(join(this.dir, 'daemon.pid'));
  }
}

/** Compares two keys in a time that does not depend on where they differ. */
function sameKey(shown: unknown, key: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return typeof shown === 'string' && timingSafeEqual(hash(shown), hash(key));
}
