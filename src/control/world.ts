/**
 * Everything outside the daemon that the control plane uses, apart from its platform (src/host/platform.ts): time,
 * randomness, files, guests' processes, other hosts, files of saved guests. It reaches them in no other way, so that
 * a simulator (test/simulate/) can provide a world in which each of them fails, reproducibly from one seed.
 * system-world.ts has the real one.
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

/** The processes in which guests run. They outlive the daemon. */
export interface GuestProcesses {
  /** True if each process gets a user and group of its own, which needs a daemon that runs as root. */
  readonly haveOwnUsers: boolean;
  start(options: SpawnOptions): Promise<ProcessId>;
  /** Connects to the socket on which the process listens for its daemon; waits for the socket to appear. */
  connect(places: ProcessPlaces, id: ProcessId): Promise<ByteStream>;
  /**
   * Connects to the socket that the process opens for a stream in its own directory; undefined if there is none so
   * far.
   */
  connectData(directory: string): Promise<Duplex | undefined>;
  isAlive(id: ProcessId): boolean;
  /** True if the process is dead within `ms` milliseconds. */
  diesWithin(id: ProcessId, ms: number): Promise<boolean>;
  /**
   * Sends SIGKILL to the process and to all processes it has started; resolves when they are dead. `because` is
   * logged.
   */
  kill(id: ProcessId, because: string): Promise<void>;
  /** How a dead process ended, in words. */
  howEnded(id: ProcessId): Promise<string>;
  /**
   * The last line that it printed, "" if none; and the lines in which it reports protections that could not be
   * applied.
   */
  lastLine(places: ProcessPlaces): string;
  confinement(places: ProcessPlaces): string[];
  /** Cuts its log, and returns what it keeps in its directory, without the names in `except`. */
  lookAfter(
    places: ProcessPlaces,
    most: number,
    except: ReadonlySet<string>,
  ): { bytes: number; names: number };
  /** Copies what it and its guest have printed into a directory of the daemon. */
  keepLogs(places: ProcessPlaces, into: string): void;
  /** Files outside its directory that it leaves behind. */
  traces(places: ProcessPlaces): string[];
  /** Lowers the process's priority, or sets it back to normal. */
  yieldToOthers(id: ProcessId): void;
  competeAgain(id: ProcessId): void;
  /** The module that runs guests, loaded in the daemon to check their configurations. */
  runner(module: string): Promise<RunnerModule>;
}

export interface OtherHosts {
  /** The two ends of a connection of this daemon to itself. */
  toItself(): [ByteStream, ByteStream];
  /** Connects to another host's daemon and sends the greeting, as the host with this directory. */
  connect(dir: string, peer: PeerAddress, trusted: readonly Trusted[], handlers: RpcHandlers): Promise<Rpc>;
}

/** Files of saved guests. */
export interface SavedImages {
  create(path: string): Promise<ImageFile>;
  open(path: string): Promise<SavedImage>;
}

/** The memory of this machine, or of the cgroup that it is limited by, KiB. */
export interface HostMemory {
  readonly totalKib: number;
  /** What new processes can have without taking it from others. */
  readonly availableKib: number;
}

export interface World {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly files: Files;
  readonly processes: GuestProcesses;
  readonly images: SavedImages;
  readonly hosts: OtherHosts;
  memory(): HostMemory;
  /** The boot of this host: another one after each start of the machine, or of its container. */
  readonly boot: string;
  /** The daemon's own process. */
  readonly self: ProcessId;
}

/** What one domain uses of it. */
export interface DomainWorld {
  readonly clock: Clock;
  readonly files: Files;
  readonly processes: Pick<
    GuestProcesses,
    'connect' | 'isAlive' | 'diesWithin' | 'kill' | 'howEnded' | 'lastLine' | 'traces'
  >;
}

/** Where a move says what happens: `facts` first, then what it is. */
export interface MoveLog {
  info(facts: object, what: string): void;
  warn(facts: object, what: string): void;
  error(facts: object, what: string): void;
}
