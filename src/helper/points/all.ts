/**
 * All migration points: their descriptions, from which docs/migration-points.md is generated, and the points of one
 * guest.
 */
import type { Guest } from '../guest.js';
import type { MigrationPoint, PointDescription } from '../point.js';
import * as busAddresses from './bus-addresses.js';
import * as consoleConnection from './console-connection.js';
import * as consolePort from './console-port.js';
import * as consoleRing from './console-ring.js';
import { backendTree, deviceRings } from './devices.js';
import * as domainId from './domain-id.js';
import * as eventChannels from './event-channels.js';
import * as fifoEventChannels from './fifo-event-channels.js';
import * as grantTable from './grant-table.js';
import * as hypervisorIdentity from './hypervisor-identity.js';
import * as machineFrames from './machine-frames.js';
import * as outage from './outage.js';
import * as processor from './processor.js';
import * as reservations from './reservations.js';
import * as rtc from './rtc.js';
import * as runstate from './runstate.js';
import * as storePort from './store-port.js';
import * as suspendSignal from './suspend-signal.js';
import * as systemTime from './system-time.js';
import * as timers from './timers.js';
import * as tsc from './tsc.js';
import * as uuid from './uuid.js';
import * as vcpus from './vcpus.js';
import * as wallClock from './wall-clock.js';
import * as xenstorePermissions from './xenstore-permissions.js';
import * as xenstoreRing from './xenstore-ring.js';
import * as xenstoreTransactions from './xenstore-transactions.js';
import * as xenstoreTree from './xenstore-tree.js';
import * as xenstoreWatches from './xenstore-watches.js';

/** The points that translate values or keep a state. The guest accesses them by name. */
export interface LivePoints {
  readonly outage: outage.Outage;
  readonly wallClock: wallClock.WallClock;
  readonly suspendSignal: suspendSignal.SuspendSignal;
  readonly xenstoreTree: xenstoreTree.XenstoreTree;
  readonly consoleRing: consoleRing.ConsoleRing;
}

/** The points of one guest, in the order of the table of everything that a move would change. */
export const pointsOf = (guest: Guest, live: LivePoints): readonly MigrationPoint[] => [
  machineFrames.machineFrames(guest),
  busAddresses.busAddresses(),
  domainId.domainId(guest),
  uuid.uuid(guest),
  eventChannels.eventChannels(guest),
  storePort.storePort(guest),
  consolePort.consolePort(guest),
  fifoEventChannels.fifoEventChannels(),
  grantTable.grantTable(guest),
  systemTime.systemTime(guest),
  tsc.tsc(guest),
  live.wallClock,
  timers.timers(guest),
  runstate.runstate(guest),
  live.outage,
  rtc.rtc(guest),
  processor.processor(),
  vcpus.vcpus(guest),
  hypervisorIdentity.hypervisorIdentity(guest),
  reservations.reservations(guest),
  xenstoreRing.xenstoreRing(guest),
  xenstoreTransactions.xenstoreTransactions(guest),
  xenstoreWatches.xenstoreWatches(guest),
  live.xenstoreTree,
  xenstorePermissions.xenstorePermissions(guest),
  live.consoleRing,
  consoleConnection.consoleConnection(guest),
  live.suspendSignal,
];

/** The descriptions for docs/migration-points.md, in the same order. The points of devices belong to each device. */
export const POINT_DESCRIPTIONS: readonly PointDescription[] = [
  machineFrames.about,
  busAddresses.about,
  domainId.about,
  uuid.about,
  eventChannels.about,
  storePort.about,
  consolePort.about,
  fifoEventChannels.about,
  grantTable.about,
  systemTime.about,
  tsc.about,
  wallClock.about,
  timers.about,
  runstate.about,
  outage.about,
  rtc.about,
  processor.about,
  vcpus.about,
  hypervisorIdentity.about,
  reservations.about,
  xenstoreRing.about,
  xenstoreTransactions.about,
  xenstoreWatches.about,
  xenstoreTree.about,
  xenstorePermissions.about,
  backendTree,
  consoleRing.about,
  consoleConnection.about,
  deviceRings,
  suspendSignal.about,
];
