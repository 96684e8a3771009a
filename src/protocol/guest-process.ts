/**
 * All that crosses from a guest's process to its daemon, declared: message, fields, types, limits. The process may have
 * been taken over by its guest, so nothing of it is used that was not held against this table.
 *
 *     NOTICES    what the process says of its own, over its socket
 *     REQUESTS   what it asks the daemon for
 *     ANSWERS    what it answers to the daemon's requests (src/guest-process/guest-protocol.ts has those)
 *     FILES      what it leaves in its directory, and the most that such a file may have, in bytes
 */
import * as v from 'valibot';
import { deviceConfig, keptGuestConfig } from './guest-config.js';
import { MAX_CONSOLE_BYTES, MAX_DMESG, MAX_NODES_AT_ONCE } from './limits.js';
import { base64, count, domid, many, nothing, port, quantity, text, uuid, words } from './shapes.js';

const MAX_VCPUS = 128;
const MAX_DEVICES = 256;
/** Pages are moved in rounds, each of which is one line of the statistics. */
const MAX_ROUNDS = 10_000;
export const endReason = v.picklist([
  'poweroff',
  'reboot',
  'crash',
  'destroyed',
  'moved',
  'saved',
  'discarded',
  'failed',
]);
export const guestExit = v.object({ reason: endReason, details: words });
export const ownerRecord = v.object({ handover: text(64), uuid });

const hello = v.object({
  pid: count,
  phase: v.picklist(['empty', 'incoming', 'starting', 'live', 'ended']),
  paused: v.boolean(),
  locked: v.boolean(),
  config: v.nullable(keptGuestConfig),
});
const progress = v.object({
  round: count,
  pages: count,
  sent: count,
  dirty: count,
  mbPerSecond: quantity,
  dirtyPagesPerSecond: quantity,
  expectedDowntimeMs: quantity,
});
const storageProgress = v.object({ copied: count, pending: count });

export const NOTICES = {
  console: v.object({ data: base64(MAX_CONSOLE_BYTES) }),
  progress: v.union([progress, storageProgress]),
  stopped: guestExit,
  unplugged: v.object({ kind: text(16), devid: count }),
  store: v.object({
    nodes: many(v.object({ path: text(3072), value: v.nullable(text(4096)) }), MAX_NODES_AT_ONCE),
  }),
};

export const REQUESTS = { stopping: v.object({}) };

export const ANSWERS = {
  hello,
  create: hello,
  receive: v.object({ port }),
  received: v.object({ name: text(256), uuid, config: keptGuestConfig, bytes: count, stateMs: quantity }),
  go: v.object({ attachMs: quantity, recordMs: quantity, startMs: quantity }),
  pause: nothing,
  unpause: nothing,
  status: v.object({
    vcpus: many(
      v.object({ id: count, state: v.picklist(['running', 'blocked', 'offline']), seconds: quantity }),
      MAX_VCPUS,
    ),
    memoryKib: v.optional(count, 0),
    cpuSeconds: quantity,
    uptimeSeconds: quantity,
    instructions: quantity,
    paused: v.boolean(),
    rssKib: count,
  }),
  points: many(
    v.object({
      name: text(256),
      rows: v.optional(text(256), ''),
      inner: text(4096),
      outer: text(4096),
      /** A process of version 0.1 does not say: nothing of what it shows is taken for a real Xen's. */
      pretended: v.optional(v.boolean(), true),
      moves: count,
    }),
    10_000,
  ),
  dmesg: text(MAX_DMESG),
  shutdown: nothing,
  rename: nothing,
  devices: many(
    v.object({ ...deviceConfig.entries, front: v.record(text(256), text(4096)), link: text(4096) }),
    MAX_DEVICES,
  ),
  plug: keptGuestConfig,
  unplug: keptGuestConfig,
  type: count,
  watchConsole: base64(MAX_CONSOLE_BYTES),
  travellingDisks: many(v.object({ devid: count, bytes: count }), MAX_DEVICES),
  send: v.object({
    rounds: many(progress, MAX_ROUNDS),
    bytes: count,
    storageBytes: count,
    precopyMs: quantity,
    reason: v.picklist(['downtime', 'rounds', 'timeout', 'paused']),
    stopMs: quantity,
    lastPagesMs: quantity,
    lastPages: count,
    stateMs: quantity,
    stoppedAt: quantity,
  }),
  abortSend: nothing,
  lock: nothing,
  resume: nothing,
  end: nothing,
};

export const FILES = {
  exit: { schema: guestExit, most: 256 << 10 },
  owner: { schema: ownerRecord, most: 4096 },
};

/** A domain's id and who has it, as this host's files have them. */
export const processId = v.object({ pid: count, startTicks: quantity });
export { domid };
