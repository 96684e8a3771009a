/**
 * What the daemon and a guest process say to each other, over a unix socket in the guest's directory (rpc.ts).
 * The guest process listens, so that it outlives its daemon and is found again by the next one.
 */
import type { DeviceConfig } from '../helper/devices.js';
import type { ReceivedImage } from '../host/images.js';
import type { HostGrant } from '../host/platform.js';
import type { DataAddress } from '../migration/data-channel.js';
import type { MoveOptions, MoveProgress, SentStats, StorageProgress } from '../protocol/moves.js';
import type {
  DeviceStatus,
  DiskSize,
  GuestConfig,
  PointRow,
  RunnerStatus,
  StopReason,
} from './guest-runner.js';

/** Names in the guest's directory. The guest process knows them relative to its working directory only. */
/** Where a process that an earlier version started listens. */
export const GUEST_SOCKET = 'guest.sock';
export const DATA_SOCKET = 'data.sock';
/** Written and synced by a guest process that came by a move, before its first instruction here. */
export const OWNER_FILE = 'owner.json';
/** Written by a guest process that ends in order. */
export const EXIT_FILE = 'exit.json';
export const CONSOLE_LOG = 'console.log';

export type GuestPhase =
  /** Nothing in it yet. */
  | 'empty'
  /** A guest is on its way in, or whole and waiting; it has never run here. */
  | 'incoming'
  /** Told to start: attaching, writing its owner record. */
  | 'starting'
  | 'live'
  /** Stopped of its own; waits to be looked at (preserve) or ended. */
  | 'ended';

export interface GuestHello {
  readonly pid: number;
  readonly phase: GuestPhase;
  readonly paused: boolean;
  readonly locked: boolean;
  readonly config: GuestConfig | null;
}

export interface GuestExit {
  readonly reason: StopReason | 'destroyed' | 'moved' | 'saved' | 'discarded' | 'failed';
  readonly details: string;
}

export interface OwnerRecord {
  readonly handover: string;
  readonly uuid: string;
}

/** Requests of the daemon. */
export interface GuestRequests {
  hello: [Record<string, never>, GuestHello];
  create: [{ config: GuestConfig; host: HostGrant; paused: boolean }, GuestHello];
  /** Listens for a guest; answers with the port, of `ports`. `disks`: images for the disks that come with it. */
  receive: [
    {
      host: HostGrant;
      from: Omit<DataAddress, 'port'>;
      ports: readonly number[];
      disks: readonly ReceivedImage[];
      expected: ExpectedGuest;
    },
    { port: number },
  ];
  /** Resolves when the whole guest is here and was checked. */
  received: [Record<string, never>, ReceivedInfo];
  /** Attach, owner record (for a move), run. */
  go: [{ handover: string | null; paused: boolean }, StartedInfo];
  pause: [Record<string, never>, null];
  unpause: [Record<string, never>, null];
  status: [Record<string, never>, RunnerStatus & { paused: boolean; rssKib: number }];
  points: [Record<string, never>, readonly PointRow[]];
  dmesg: [Record<string, never>, string];
  /** Resolves when the guest took the request, or fails with 'timed-out'. */
  shutdown: [{ kind: 'poweroff' | 'reboot'; timeoutS: number }, null];
  rename: [{ name: string }, null];
  devices: [Record<string, never>, readonly DeviceStatus[]];
  /** Answers with the guest's configuration after it. `at`: where the file of a disk is for this process, if elsewhere. */
  plug: [{ device: DeviceConfig; at: string | null }, GuestConfig];
  /** Fails with 'timed-out' when the guest does not let go; `force` takes it away. */
  unplug: [{ kind: string; devid: number; force: boolean; timeoutS: number }, GuestConfig];
  /** Typed bytes in base64; answers how many were taken. */
  type: [{ data: string }, number];
  /** The latest output in base64; from now on `console` notices come. */
  watchConsole: [Record<string, never>, string];
  /** How large the guest's disks are; which of them are files, its daemon knows. */
  travellingDisks: [Record<string, never>, readonly DiskSize[]];
  /** Sends the guest; leaves it paused. Asks back `stopping` before it stops. `disks`: those that travel with it. */
  send: [
    {
      to: DataAddress;
      options: MoveOptions;
      handover: boolean;
      /** Of the stream; the plain one if nothing is said. */
      version?: number;
      clockDifference?: number;
      disks?: readonly number[];
      /** How long the other side, or a disk that is copied, may do nothing before the sending is given up, ms. */
      answerMs?: number;
    },
    SentStats,
  ];
  abortSend: [{ reason: string }, null];
  lock: [Record<string, never>, null];
  /** Unlock and go on. */
  resume: [Record<string, never>, null];
  /** Let go of all resources and end. */
  end: [{ reason: GuestExit['reason'] }, null];
}

/** The guest that is to come, as its daemon knows it; a stream of another is refused. */
export interface ExpectedGuest {
  readonly name: string;
  readonly uuid: string;
  /** Null where only the stream has it. */
  readonly config: GuestConfig | null;
}

export interface ReceivedInfo {
  readonly name: string;
  readonly uuid: string;
  readonly config: GuestConfig;
  readonly bytes: number;
  readonly stateMs: number;
}

export interface StartedInfo {
  readonly attachMs: number;
  readonly recordMs: number;
  readonly startMs: number;
}

/** Notices of the guest process: what a move has done so far in `progress`. */
export interface GuestNotices {
  console: { data: string };
  progress: MoveProgress | StorageProgress;
  stopped: GuestExit;
  /** A device that the guest was asked to let go of is gone, in time or late. */
  unplugged: { kind: string; devid: number };
  store: { nodes: readonly { path: string; value: string | null }[] };
}
