/**
 * The contents of the small files in a daemon's directory, and of the argument for a process that it starts; all of
 * them are JSON. They are checked because a damaged file may contain anything. Undeclared fields are kept: a later
 * version may have written them.
 */
import * as v from 'valibot';
import { crash } from './control.js';
import { autostart, deviceConfig, diskFormat, guestExit, keptGuestConfig } from './guest-config.js';
import {
  atLeast,
  count,
  domid,
  fields,
  is,
  like,
  many,
  oneOf,
  path,
  port,
  quantity,
  text,
  uuid,
  yes,
} from './shapes.js';

const MAX_FILES = 4096;
const MAX_DEVICES = 256;
const MAX_DEFINITIONS = 4096;

/** A guest's configuration in a file of ours. */
const keptConfig = atLeast({
  ...keptGuestConfig.entries,
  devices: is(many(atLeast(deviceConfig.entries), MAX_DEVICES), 'disks and networks'),
});

const incomingRef = {
  handover: is(text(64), "the move's id"),
  peer: is(text(256), 'fingerprint of the source\'s certificate; "" on plain loopback'),
};
const processId = fields({
  pid: is(count, 'process id'),
  startTicks: is(quantity, 'when it started, as /proc/PID/stat has it', 'clock ticks'),
  boot: v.optional(is(text(256), 'the boot of the host in which it started; left out by version 0.1')),
});
/** A file to which a guest's user was given access: this record is used to take the access back. */
const givenAccess = fields({
  path: is(path, 'the file'),
  dev: is(count, 'its device'),
  ino: is(count, 'its inode'),
  how: is(
    oneOf('entry', 'found', 'owner'),
    'entry: an entry in its list. found: there was one before. owner: the user was made its owner',
  ),
  perm: is(count, 'ACL_* that the user needs'),
  uid: is(count, 'its owner before'),
  gid: is(count, 'its group before'),
});
const incomingImage = fields({
  devid: is(count, 'number of the disk'),
  path: is(path, 'the image'),
  target: is(path, 'the name that it gets when its guest is here'),
  format: is(diskFormat, 'its format'),
  readOnly: v.optional(is(yes, 'whether the guest may only read it'), false),
  bytes: is(count, 'size of the disk', 'bytes'),
  fileBytes: v.optional(is(count, 'of a raw file, where it ends within its last sector', 'bytes')),
});

const definition = atLeast({
  uuid: is(uuid, 'the identity of the guest'),
  config: is(keptConfig, 'its configuration'),
  foreign: is(many(path, MAX_FILES), 'files in that which no operator named'),
  sinceMs: is(quantity, 'when this was written, since 1970', 'ms'),
  kept: is(
    oneOf('defined', 'crashed'),
    'defined: somebody wants it known. crashed: it crashed, or its process was lost, and it was not defined',
  ),
  autostart: is(v.nullable(autostart), 'null: it is not started with its host'),
  saved: v.optional(is(path, 'the file that the whole guest is in')),
});

const domainState = atLeast({
  domid: is(domid, 'domain id'),
  name: is(text(256), 'name'),
  uuid: is(uuid, 'the identity of the guest'),
  vcpus: is(count, 'the most vCPUs that it may have'),
  memoryKib: is(count, 'the most memory that it may have', 'KiB'),
  config: is(v.nullable(keptConfig), 'its configuration; null where only its stream has it'),
  next: v.optional(is(keptConfig, 'the configuration of its next power-on on this host')),
  memoryLimitKib: v.optional(is(count, 'the most memory that `memSet` may give', 'KiB')),
  foreign: v.optional(is(many(path, MAX_FILES), 'files in that which no operator named')),
  process: is(v.nullable(processId), 'its process; null while there is none'),
  createdMs: is(v.number('a number is expected'), 'when it was made, since 1970', 'ms'),
  generation: v.optional(is(count, 'rises by one with each domain of this host')),
  replaces: v.optional(is(domid, 'the domain whose reboot it is')),
  code: v.optional(
    is(text(128), "directory of its process's code, below code/; the installed package if it is left out"),
  ),
  phase: is(oneOf('building', 'incoming', 'live', 'ended'), 'where it is in its life'),
  exit: is(v.nullable(guestExit), 'how it ended; null while it has not'),
  defined: v.optional(
    is(
      fields({ autostart: is(v.nullable(autostart), 'when it was started with its last host') }),
      'it was defined on the host that it came from, and is to be defined here',
    ),
  ),
  incoming: is(
    v.nullable(fields(incomingRef)),
    'the move by which it came, until its source has closed its books',
  ),
  disks: v.optional(
    is(many(incomingImage, MAX_DEVICES), 'images that were made for disks that come with it'),
  ),
  grants: v.optional(
    is(many(givenAccess, MAX_FILES), 'files that its user was let have, and has to give back'),
  ),
  storePort: is(count, "event-channel port of its store, this host's"),
  consolePort: is(count, 'the same of its console'),
  storeFrame: is(count, "machine frame of its store's ring, this host's"),
  consoleFrame: is(count, "the same of its console's"),
});

/** A small file of the daemon. */
export interface DaemonFile {
  readonly name: string;
  readonly about: string;
  readonly shape: v.GenericSchema;
}

export const DAEMON_FILES = {
  process: { name: 'daemon.pid', about: 'The daemon that runs in this directory.', shape: processId },
  domids: {
    name: 'domids.json',
    about: 'Where domain ids go on.',
    shape: atLeast({
      next: is(domid, 'the next domain id'),
      generation: v.optional(is(count, 'of the last domain that was made')),
    }),
  },
  boot: {
    name: 'boot.json',
    about: 'The boot of the host for which guests were started, and those of them that still are to be.',
    shape: atLeast({
      boot: is(text(256), 'boot_id of the host, and the start of its first process in clock ticks'),
      pending: is(many(uuid, MAX_DEFINITIONS), 'guests that are to be started'),
    }),
  },
  definition: {
    name: 'definitions/UUID.json',
    about: 'A guest that this host knows also while it does not run.',
    shape: definition,
  },
  crash: {
    name: 'crashes/ID/crash.json',
    about: 'What stays of a guest that crashed, or whose process was lost.',
    shape: atLeast(crash.entries),
  },
  state: { name: 'state/DOMID.json', about: 'A domain of this host.', shape: domainState },
  outgoing: {
    name: 'handovers/out-ID.json',
    about: 'A move at its source, from before the guest stops until the books are closed.',
    shape: atLeast({
      handover: incomingRef.handover,
      domid: is(domid, 'domain id here'),
      uuid: is(uuid, 'the identity of the guest'),
      peer: is(
        fields({
          name: is(text(256), 'name under which it is trusted; "" on plain loopback'),
          host: is(text(256), 'its address'),
          port: is(port, 'its port'),
        }),
        "the destination's daemon",
      ),
      record: is(oneOf('offered', 'gone'), 'how far it is (docs/handover.md)'),
      disks: v.optional(is(many(path, MAX_DEVICES), 'files of disks that travel with it')),
      inodes: v.optional(is(many(count, MAX_DEVICES), 'their inodes, in the same order')),
      defined: v.optional(is(yes, 'whether the destination knows that the guest is defined')),
    }),
  },
  incoming: {
    name: 'handovers/in-ID.json',
    about: 'A move at its destination, whose guest has ended before the source has closed its books.',
    shape: atLeast({ ...incomingRef, uuid: is(uuid, 'the identity of the guest') }),
  },
  trusted: {
    name: 'identity/trusted/NAME.json',
    about: 'A host that is trusted.',
    shape: atLeast({
      name: is(text(64), 'the name under which it is trusted'),
      certificate: is(text(64 << 10), 'its certificate, PEM'),
      fingerprint: is(like(/^[0-9a-f]{64}$/, 'a fingerprint'), 'SHA-256 of that'),
      address: is(text(300), 'HOST:PORT of its daemon; "" if it has none'),
      allow: is(many(oneOf('move', 'control'), 2), 'what it may do here'),
    }),
  },
  seal: {
    name: 'save.json',
    about: 'The key of the seal on saved configurations (record CONF).',
    shape: fields({ key: is(like(/^[0-9a-f]{64}$/, 'a key'), '32 random bytes in hexadecimal digits') }),
  },
} satisfies Readonly<Record<string, DaemonFile>>;

const paths = many(path, MAX_FILES);
/** The argument of a process that is about to become a guest's (src/guest-process/guest-launcher.ts). */
export const launcherOptions = fields({
  runner: is(text(4096), 'URL of the runner module'),
  files: is(
    v.nullable(
      fields({
        hidden: is(path, 'a directory of which the process shall see no more than its own'),
        writable: is(paths, 'files, devices and folders that it may write'),
        readable: is(paths, 'files that it may read'),
        sockets: is(paths, 'unix sockets that it may connect to'),
        anyDisk: is(yes, 'whether its disks are not known yet'),
      }),
    ),
    'what of the file system it sees; null: it has a user of its own',
  ),
  limits: is(
    fields({
      processes: v.optional(is(count, 'processes and threads of its user')),
      fileBytes: v.optional(is(count, 'the longest file that it may write', 'bytes')),
    }),
    'its limits',
  ),
  unconfined: is(yes, 'whether it starts where it cannot be confined'),
});
