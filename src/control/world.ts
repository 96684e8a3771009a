/**
 * All that the control plane has to do with the world, beside its platform (src/host/platform.ts): time, chance, files,
 * guests' processes, other hosts, files of saved guests. It reaches none of it in another way, so that a simulator (test/simulate/) can give it a world in which all of it fails,
 * from one seed. system-world.ts has the real one.
 */
import type { Duplex } from 'node:stream';
import type { RunnerModule } from '../guest-process/guest-runner.js';
import type { ImageFile, SavedImage } from '../migration/image-file.js';
import type { Chance, Clock } from '../os/clock.js';
import type { Files } from '../os/files.js';
import type { ByteStream, Rpc, RpcHandlers } from '../protocol/rpc.js';
import type { Trusted } from '../transport/identity.js';
import type { PeerAddress } from '../transport/peer.js';
import type { ProcessId, ProcessPlaces, SpawnOptions } from './domains/spawn.js';

/** The processes that guests run in. They outlive the daemon. */
export interface GuestProcesses {
  /** Whether each gets a user and group of its own: the daemon is root then. */
  readonly haveOwnUsers: boolean;
  start(options: SpawnOptions): Promise<ProcessId>;
  /** To the socket on which it listens for its daemon; waits for that to come up. */
  connect(places: ProcessPlaces, id: ProcessId): Promise<ByteStream>;
  /** To the socket that it opens for a stream in its own directory; undefined where there is none yet. */
  connectData(directory: string): Promise<Duplex | undefined>;
  isAlive(id: ProcessId): boolean;
  /** Whether it is dead within so many milliseconds. */
  diesWithin(id: ProcessId, ms: number): Promise<boolean>;
  /** SIGKILL, to it and to all that it has started; resolves when they are dead. */
  kill(id: ProcessId, because: string): Promise<void>;
  /** How a dead one ended, in words. */
  howEnded(id: ProcessId): Promise<string>;
  /** What it has printed last, "" for nothing; and the lines in which it says what it could not be kept from. */
  lastLine(places: ProcessPlaces): string;
  confinement(places: ProcessPlaces): string[];
  /** Cuts its log, and tells what it has in its directory but for `except`. */
  lookAfter(
    places: ProcessPlaces,
    most: number,
    except: ReadonlySet<string>,
  ): { bytes: number; names: number };
  /** Files outside of its directory that it leaves. */
  traces(places: ProcessPlaces): string[];
  /** It yields to others that run, or competes with them again. */
  yieldToOthers(id: ProcessId): void;
  competeAgain(id: ProcessId): void;
  /** The module that runs guests, in the daemon: for their configurations. */
  runner(module: string): Promise<RunnerModule>;
}

export interface OtherHosts {
  /** Connects to another host's daemon and greets it, as the host whose directory this is. */
  connect(dir: string, peer: PeerAddress, trusted: readonly Trusted[], handlers: RpcHandlers): Promise<Rpc>;
}

/** Files of saved guests. */
export interface SavedImages {
  create(path: string): Promise<ImageFile>;
  open(path: string): Promise<SavedImage>;
}

export interface World {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly files: Files;
  readonly processes: GuestProcesses;
  readonly images: SavedImages;
  readonly hosts: OtherHosts;
  /** The daemon's own process. */
  readonly self: ProcessId;
}
