/**
 * All messages between a daemon and a guest's process, over a unix socket. The process listens on it, so that it
 * outlives its daemon and the next daemon finds it. The guest may have taken over its process, so nothing from it is
 * used that was not checked against these tables.
 *
 *     GUEST          what the daemon asks the process for
 *     TO_GUEST       what the daemon tells it
 *     ASKED_BY_GUEST what the process asks the daemon for
 *     FROM_GUEST     what the process tells of its own
 *     GUEST_FILES    what it leaves in its directory
 */
import * as v from 'valibot';
import { MAX_POINTS, pointRow, vcpuStatus } from './control.js';
import { deviceConfig, diskFormat, endReason, guestExit, keptGuestConfig } from './guest-config.js';
import { MAX_CONSOLE_BYTES, MAX_DMESG, MAX_NODES_AT_ONCE } from './limits.js';
import { anyProgress, moveOptions, sentStats, startedInfo } from './moves.js';
import {
  base64,
  between,
  count,
  domid,
  fields,
  is,
  many,
  named,
  nothing,
  oneOf,
  path,
  port,
  quantity,
  text,
  uuid,
  words,
  yes,
} from './shapes.js';
import { notice, openRequest } from './table.js';

const MAX_VCPUS = 128;
const MAX_DEVICES = 256;
const MAX_PORTS = 65_536;
/** The longest time that a timer of Node can wait is the limit. */
const timeoutS = is(between(0, 2_147_483), 'how long the guest may take', 's');

export type GuestExit = Readonly<v.InferOutput<typeof guestExit>>;
const ownerRecord = fields({
  handover: is(text(64), "the move's id"),
  uuid: is(uuid, "the guest's identity"),
});

const hello = fields({
  pid: is(count, 'its process id'),
  phase: is(
    oneOf('empty', 'incoming', 'starting', 'live', 'ended'),
    'empty: there is no guest yet. incoming: one is on its way in, or whole and waiting; it has never run here. starting: it was told to start, and attaches, and writes its owner record. ended: it stopped of its own',
  ),
  paused: is(yes, 'whether somebody paused the guest'),
  locked: is(yes, 'whether it may not go on, as another host may own the guest'),
  config: is(v.nullable(keptGuestConfig), "the guest's configuration; null while there is none"),
});
export type GuestHello = Readonly<v.InferOutput<typeof hello>>;
export type GuestPhase = GuestHello['phase'];

/** What a host gives to one guest; its platform declares the rest (src/host/platform.ts). */
const hostGrant = fields({
  platform: is(text(64), "the platform's name"),
  settings: is(named(v.unknown()), "the platform's own settings"),
  name: is(text(256), "the host's name"),
  domid: is(domid, 'domain id on this host'),
  storePort: is(count, "event-channel port of its store, this host's"),
  consolePort: is(count, 'the same of its console'),
  storeFrame: is(count, "machine frame of its store's ring, this host's"),
  consoleFrame: is(count, "the same of its console's"),
});

const dataAddress = {
  path: v.optional(is(path, 'a unix socket in place of host and port: for save and restore')),
  host: is(text(255), 'where to'),
  identity: is(text(64), 'name of the move; no secret'),
  key: v.optional(is(text(64), '32 random bytes, used once, in hexadecimal digits; left out: unencrypted')),
};

const expectedGuest = fields({
  name: is(text(256), "the guest's name"),
  uuid: is(uuid, "the guest's identity"),
  config: is(v.nullable(keptGuestConfig), 'its configuration; null where only the stream has it'),
});
export type ExpectedGuest = Readonly<v.InferOutput<typeof expectedGuest>>;

const receivedImage = fields({
  devid: is(count, 'the number of the disk'),
  path: is(path, 'path of the image that was made for it'),
  format: is(diskFormat, 'its format'),
  bytes: is(count, 'size of the disk', 'bytes'),
  fileBytes: v.optional(is(count, 'of a raw file, where it ends within its last sector', 'bytes')),
});

const receivedInfo = fields({
  ...expectedGuest.entries,
  config: is(keptGuestConfig, 'its configuration'),
  bytes: is(count, 'length of the stream', 'bytes'),
  stateMs: is(quantity, 'how long the state took', 'ms'),
});
export type ReceivedInfo = Readonly<v.InferOutput<typeof receivedInfo>>;

const node = fields({
  path: is(text(3072), 'path in xenstore, in the domain'),
  value: is(v.nullable(text(4096)), 'value; null: the node is gone'),
});

/** Requests of the daemon. */
export const GUEST = {
  hello: openRequest('Tells what there is; all its nodes in xenstore follow as `store` notices.', {
    params: {},
    answer: hello,
  }),
  create: openRequest('Makes the guest, whose kernel and ramdisk are open as descriptors 3 and 4.', {
    params: {
      config: is(keptGuestConfig, "the guest's configuration"),
      host: is(hostGrant, 'what this host gives to it'),
      paused: is(yes, 'whether it waits before its first instruction'),
    },
    answer: hello,
    errors: ['bad-state', 'bad-config'],
  }),
  receive: openRequest('Listens for the stream of a guest; answers with the port.', {
    params: {
      host: is(hostGrant, 'what this host gives to it'),
      from: is(fields(dataAddress), 'where the stream comes to'),
      ports: is(many(port, MAX_PORTS), 'ports to try, in order; 0 for any'),
      disks: is(many(receivedImage, MAX_DEVICES), 'images for the disks that come with it'),
      expected: is(expectedGuest, 'the guest that was announced; a stream of another is refused'),
    },
    answer: fields({ port: is(port, 'where it listens') }),
    errors: ['bad-state'],
  }),
  received: openRequest('Is answered when the whole guest is here and was looked at.', {
    params: {},
    answer: receivedInfo,
    errors: ['bad-state', 'bad-image'],
  }),
  go: openRequest("Attaches the guest's links, writes the owner record of a move, runs the guest.", {
    params: {
      handover: is(v.nullable(text(64)), "the move's id; null where none is"),
      paused: is(yes, 'whether it waits before its first instruction'),
    },
    answer: startedInfo,
    errors: ['bad-state'],
  }),
  pause: openRequest('Stops the guest between two instructions.', {
    params: {},
    answer: nothing,
    errors: ['bad-state'],
  }),
  unpause: openRequest('Lets it go on.', { params: {}, answer: nothing, errors: ['bad-state'] }),
  status: openRequest('Tells what the guest uses.', {
    params: {},
    answer: fields({
      vcpus: is(many(vcpuStatus, MAX_VCPUS), 'its vCPUs'),
      memoryKib: v.optional(is(count, 'of the frames that it has now', 'KiB'), 0),
      cpuSeconds: is(quantity, 'processor time used since power-on, on all hosts together', 's'),
      uptimeSeconds: is(quantity, 'since power-on, as the guest counts it', 's'),
      instructions: is(quantity, 'instructions that it has carried out'),
      paused: is(yes, 'whether it is paused'),
      rssKib: is(count, 'memory of the process', 'KiB'),
    }),
    errors: ['bad-state'],
  }),
  points: openRequest("Tells the guest's migration points.", {
    params: {},
    answer: many(pointRow, MAX_POINTS),
    errors: ['bad-state'],
  }),
  dmesg: openRequest("Tells the messages of the guest's hypervisor.", {
    params: {},
    answer: text(MAX_DMESG),
  }),
  shutdown: openRequest('Asks the guest to end; is answered when it has taken the request.', {
    params: { kind: is(oneOf('poweroff', 'reboot'), 'what it is asked for'), timeoutS },
    answer: nothing,
    errors: ['bad-state', 'timed-out'],
  }),
  nmi: openRequest('Gives a vCPU a non-maskable interrupt.', {
    params: { vcpu: is(count, 'its number') },
    answer: nothing,
    errors: ['bad-state', 'usage'],
  }),
  resized: openRequest('The guest shall have other sizes, also when it reboots elsewhere.', {
    params: {
      onlineVcpus: v.optional(is(count, 'vCPUs that are to be online')),
      memoryKib: v.optional(is(count, 'the memory that it is to have', 'KiB')),
    },
    answer: nothing,
    errors: ['bad-state'],
  }),
  rename: openRequest('Gives the guest another name for the toolstack.', {
    params: { name: is(text(256), 'the name') },
    answer: nothing,
    errors: ['bad-state'],
  }),
  devices: openRequest("Lists the guest's disks and networks.", {
    params: {},
    answer: many(
      fields({
        ...deviceConfig.entries,
        front: is(v.record(text(256), text(4096)), "nodes of its front end in the guest's own xenstore"),
        link: is(text(4096), 'what this host gave, in words'),
      }),
      MAX_DEVICES,
    ),
    errors: ['bad-state'],
  }),
  plug: openRequest("Plugs a device in; answers with the guest's configuration after that.", {
    params: {
      device: is(deviceConfig, 'the device'),
      at: is(v.nullable(path), 'where the file of a disk is for this process, if elsewhere'),
    },
    answer: keptGuestConfig,
    errors: ['bad-state'],
  }),
  unplug: openRequest('Asks the guest to let go of a device, or takes it away.', {
    params: {
      kind: is(text(16), 'vbd or vif'),
      devid: is(count, 'its number'),
      force: is(yes, 'whether it is taken away'),
      timeoutS,
    },
    answer: keptGuestConfig,
    errors: ['bad-state', 'timed-out', 'usage'],
  }),
  type: openRequest('Types at the console; answers how many bytes were taken.', {
    params: { data: is(base64(MAX_CONSOLE_BYTES), 'bytes in base64') },
    answer: count,
    errors: ['bad-state'],
  }),
  watchConsole: openRequest('Tells the latest output, in base64; `console` notices follow.', {
    params: {},
    answer: base64(MAX_CONSOLE_BYTES),
  }),
  travellingDisks: openRequest(
    "Tells how large the guest's disks are; which of them are files, its daemon knows.",
    {
      params: {},
      answer: many(
        fields({ devid: is(count, 'its number'), bytes: is(count, 'its whole sectors', 'bytes') }),
        MAX_DEVICES,
      ),
      errors: ['bad-state'],
    },
  ),
  send: openRequest('Sends the guest, and leaves it paused; asks back `stopping` before it stops it.', {
    params: {
      to: is(fields({ ...dataAddress, port: is(port, 'port of that host') }), 'where to'),
      options: is(fields(moveOptions), 'what the move may take'),
      handover: is(yes, 'whether a hand-over follows; else it is saved'),
      version: v.optional(
        is(v.number('a number is expected'), 'of the stream; the plain one if it is left out'),
      ),
      clockDifference: v.optional(
        is(quantity, "the destination's wall clock less ours, where it was measured", 'ns'),
      ),
      disks: v.optional(is(many(count, MAX_DEVICES), 'numbers of the disks that travel with it')),
      answerMs: v.optional(
        is(
          quantity,
          'how long the other side, or a disk that is copied, may do nothing before it is given up',
          'ms',
        ),
      ),
    },
    answer: sentStats,
    errors: ['bad-state', 'timed-out'],
  }),
  dumpCore: openRequest(
    "Writes the guest's core to the unix socket that it opens; the guest stands still meanwhile.",
    {
      params: { to: is(fields(dataAddress), 'where the daemon takes it') },
      answer: fields({ bytes: is(count, 'its length', 'bytes') }),
      errors: ['bad-state', 'io', 'timed-out'],
    },
  ),
  abortSend: openRequest('Gives up the sending.', {
    params: { reason: is(words, 'why') },
    answer: nothing,
  }),
  lock: openRequest('Lets go of the disks of a guest that was sent; it never goes on until `resume`.', {
    params: {},
    answer: nothing,
    errors: ['bad-state', 'timed-out'],
  }),
  resume: openRequest('Unlocks a guest that was sent, and lets it go on.', { params: {}, answer: nothing }),
  end: openRequest('Lets go of all, and ends the process.', {
    params: { reason: is(endReason, 'why') },
    answer: nothing,
  }),
};
export type GuestRequests = typeof GUEST;

/** Notices of the daemon. */
export const TO_GUEST = {
  storeChanged: notice("Somebody changed a node of the domain in the host's xenstore.", node),
};

/** Requests of the process. */
export const ASKED_BY_GUEST = {
  stopping: openRequest(
    'The guest is about to be stopped for a move: that is on disk when this is answered.',
    {
      params: {},
      answer: nothing,
      errors: ['bad-state', 'move-failed'],
    },
  ),
};

/** Notices of the process. */
export const FROM_GUEST = {
  console: notice(
    'The guest has printed something.',
    fields({ data: is(base64(MAX_CONSOLE_BYTES), 'bytes in base64') }),
  ),
  progress: notice('A move is at this point.', anyProgress),
  stopped: notice('The guest stopped of its own.', guestExit),
  unplugged: notice(
    'A device that the guest was asked to let go of is gone, in time or late.',
    fields({ kind: is(text(16), 'vbd or vif'), devid: is(count, 'its number') }),
  ),
  store: notice(
    'The guest has changed nodes that the host has to see; the latest value of each.',
    fields({ nodes: is(many(node, MAX_NODES_AT_ONCE), 'the nodes') }),
  ),
};

/** A file of the process, and its maximum size, in bytes. */
export interface GuestFile<S extends v.GenericSchema = v.GenericSchema> {
  readonly name: string;
  readonly about: string;
  readonly shape: S;
  readonly most: number;
}
/** The files that it leaves in its directory, with their maximum size in bytes. */
export const GUEST_FILES = {
  exit: {
    name: 'exit.json',
    about: 'How it ended, where it ended in order.',
    shape: guestExit,
    most: 256 << 10,
  },
  owner: {
    name: 'owner.json',
    about: 'The owner record: by which move the guest came, before its first instruction here.',
    shape: ownerRecord,
    most: 4096,
  },
};
