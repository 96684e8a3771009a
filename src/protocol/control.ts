/** All messages between clients (people and programs) and a daemon: the verbs of the command line and of the client. */
import * as v from 'valibot';
import { autostart, guestExit, guestName, keptGuestConfig } from './guest-config.js';
import { MAX_CONSOLE_BYTES, MAX_DMESG } from './limits.js';
import { anyProgress, DEFAULT_MOVE, moveOptions, moveStats } from './moves.js';
import {
  base64,
  between,
  count,
  domid,
  fields,
  is,
  like,
  many,
  nothing,
  oneOf,
  quantity,
  someText,
  text,
  uuid,
  whole,
  words,
  yes,
} from './shapes.js';
import { notice, request } from './table.js';

/** The longest time that a timer of Node can wait, s. */
const MAX_NUMBER = 2_147_483;
const MAX_DOMAINS = 0x7ff0;
const MAX_DEVICES = 256;
const MAX_VCPUS = 128;
/** 16 TiB. */
const MAX_KIB = 2 ** 34;
const MAX_PRETENDED = 16;
const MAX_KEPT_MOVES = 100;
const MAX_CONFIG = 1 << 20;
const MAX_CRASHES = 256;
const MAX_TYPED = 64 << 10;

const ofGuest = {
  guest: is(someText(256), 'the guest: its domain id, name or uuid'),
  uuid: v.optional(is(someText(64), 'the same guest for sure, whatever another one is called meanwhile')),
};
const number = between(0, MAX_NUMBER);
const paused = v.optional(is(yes, 'whether it stays paused'), false);
const overcommit = v.optional(
  is(yes, 'whether it is made also if the host has not the memory for it'),
  false,
);
const force = v.optional(is(yes, 'whether it is taken away without asking the guest'), false);
const whichDevice = is(someText(256), 'its name, number or address');
const shutdownParams = {
  ...ofGuest,
  timeoutS: v.optional(is(number, 'how long the guest may take', 's'), 60),
  wait: v.optional(is(yes, 'whether the answer waits until it has ended'), false),
};
const ofDevice = {
  state: is(v.number(), "the guest's XenbusState"),
  evtchn: is(v.number(), 'event channel of its first queue; -1 where it is not connected'),
  backend: is(text(4096), 'path of its back end in xenstore'),
  link: is(text(4096), 'what this host gave, in words'),
};

export const domainRow = fields({
  domid: is(domid, 'domain id on this host'),
  name: is(text(512), 'name; while the guest arrives it ends in --incoming'),
  uuid: is(uuid, 'the identity of the guest, for as long as it lives'),
  memoryMib: is(count, 'what the guest has now; the most that it may have is in its configuration', 'MiB'),
  vcpus: is(count, 'those that are online'),
  state: is(
    text(16),
    'as in xl: r running, b blocked, p paused, s shut down, c crashed, d dying; - otherwise',
  ),
  seconds: is(quantity, 'processor time used since power-on, on all hosts together', 's'),
  uptimeSeconds: is(quantity, 'since power-on, as the guest counts it', 's'),
  moving: is(yes, 'whether it is on its way to another host'),
  pid: is(count, 'its process; 0 while there is none'),
  rssKib: is(count, 'memory of its process', 'KiB'),
  instructions: is(quantity, 'instructions that it has carried out'),
  code: v.optional(
    is(
      text(128),
      'the code that its process runs: version and checksum; left out where that is the installed package',
    ),
  ),
});
/** One line of `list`. */
export type DomainRow = Readonly<v.InferOutput<typeof domainRow>>;

const domainIdentity = fields({
  domid: is(domid, 'domain id on this host'),
  name: is(text(256), 'name'),
  uuid: is(uuid, 'the identity of the guest'),
});
/**
 * Which guest a reference means. A client that asks more than once continues with the uuid, which never belongs to
 * another guest.
 */
export type DomainIdentity = Readonly<v.InferOutput<typeof domainIdentity>>;

const hostInfo = fields({
  host: is(text(256), "the host's name"),
  release: is(text(256), 'of its kernel'),
  version: v.optional(is(text(64), 'of its daemon')),
  code: v.optional(
    is(text(128), 'the code that processes of new guests run; left out where that is the installed package'),
  ),
  nr_cpus: is(count, 'processors'),
  cpu_model: is(text(256), 'their model'),
  tsc_khz: is(quantity, 'of its time stamp counter', 'kHz'),
  total_memory: is(count, 'memory', 'MiB'),
  free_memory: is(count, 'memory that is free', 'MiB'),
  uptime_s: is(quantity, 'how long it has been running', 's'),
  wall_clock: is(text(64), 'its wall clock, as ISO 8601 has it'),
  xen_version: is(text(64), 'of the Xen that it is, or pretends to be'),
  domains: is(count, 'how many there are'),
  next_domid_after: is(count, 'the greatest domain id that is in use'),
  plain_loopback: is(yes, 'whether it takes connections without encryption, on loopback'),
  pretended: v.optional(
    is(
      many(
        oneOf('cpu_model', 'tsc_khz', 'uptime_s', 'wall_clock', 'xen_version', 'next_domid_after'),
        MAX_PRETENDED,
      ),
      'which of these values the host invents, as a host without Xen does',
    ),
    [],
  ),
});
export type HostInfo = Readonly<v.InferOutput<typeof hostInfo>>;

const warnings = (what: string) => v.optional(is(many(text(4096), 1024), what));
const createdRow = fields({
  ...domainRow.entries,
  warnings: warnings('what of the configuration has no effect, each with file and line'),
});
/** The answer to `create`. */
export type CreatedRow = Readonly<v.InferOutput<typeof createdRow>>;

export const crash = fields({
  id: is(count, 'rises with each domain of the host'),
  domid: is(domid, 'domain id that it had'),
  name: is(text(256), 'name'),
  uuid: is(uuid, 'the identity of the guest'),
  atMs: is(v.number('a number is expected'), 'when it was kept, since 1970', 'ms'),
  exit: is(guestExit, 'how it ended'),
  coreBytes: is(count, 'length of its core; 0: there is none', 'bytes'),
});

/** A line of `crashes`. */
export type CrashRow = Readonly<v.InferOutput<typeof crash>> & { readonly directory: string };

const definedRow = fields({
  name: is(text(256), 'name'),
  uuid: is(uuid, 'the identity of the guest'),
  memoryMib: is(count, 'what it has at power-on', 'MiB'),
  vcpus: is(count, 'those that are online at power-on'),
  kept: is(
    oneOf('defined', 'crashed'),
    'defined: somebody has defined it. crashed: it crashed, or its process was lost, and `undefine` forgets it',
  ),
  autostart: is(v.nullable(autostart), 'when it is started with its host; null: it is not'),
  pending: is(yes, 'whether it is about to be started so'),
  saved: v.optional(is(text(4096), 'the file that the whole guest is in')),
  domid: is(v.nullable(domid), 'its domain id; null while it does not run'),
  warnings: v.optional(
    is(many(text(4096), 1024), 'what of the configuration has no effect, each with file and line'),
  ),
});
/** A guest that a host knows also while it does not run. */
export type DefinedRow = Readonly<v.InferOutput<typeof definedRow>>;

const diskRow = fields({
  vdev: is(text(64), 'name, as the guest sees it'),
  devid: is(count, 'number'),
  ...ofDevice,
  ringRef: is(v.number(), 'ring reference of its first queue; -1 where it is not connected'),
  readOnly: is(yes, 'whether the guest may only read it'),
});
/** One line of `block-list`. */
export type DiskRow = Readonly<v.InferOutput<typeof diskRow>>;

const networkRow = fields({
  devid: is(count, 'number'),
  mac: is(text(17), 'hardware address'),
  bridge: is(text(16_384), "the host's name for its network"),
  ...ofDevice,
  txRingRef: is(v.number(), 'ring reference of what it sends; -1 where it is not connected'),
  rxRingRef: is(v.number(), 'the same of what it receives'),
});
/** One line of `network-list`. */
export type NetworkRow = Readonly<v.InferOutput<typeof networkRow>>;

export const vcpuStatus = fields({
  id: is(count, 'its number'),
  state: is(oneOf('running', 'blocked', 'offline'), 'what it does'),
  seconds: is(quantity, 'for how long it has run', 's'),
});
const vcpuRows = fields({
  domid: is(domid, 'domain id on this host'),
  name: is(text(256), 'name'),
  vcpus: is(many(vcpuStatus, MAX_VCPUS), 'its vCPUs'),
});
export type VcpuRows = Readonly<v.InferOutput<typeof vcpuRows>>;

export const pointRow = fields({
  name: is(text(256), 'the migration point'),
  rows: v.optional(is(text(256), 'rows of docs/migration-points.md that it holds'), ''),
  inner: is(text(4096), 'what the guest sees'),
  outer: is(text(4096), 'what this host gave'),
  pretended: v.optional(
    is(
      yes,
      'whether the host invented that; a process of version 0.1 does not say, and nothing of it is taken for a real Xen',
    ),
    true,
  ),
  moves: is(count, 'moves that the guest has survived'),
});
export const MAX_POINTS = 10_000;

export const domainPhase = oneOf('building', 'incoming', 'live', 'ended');
const watchedDomain = fields({
  ...domainIdentity.entries,
  phase: is(domainPhase, 'where it is in its life'),
  moving: is(yes, 'whether it is on its way to another host'),
});
export type WatchedDomain = Readonly<v.InferOutput<typeof watchedDomain>>;

/** What can happen to a domain. */
export const domainChange = oneOf(
  'building',
  'incoming',
  'live',
  'paused',
  'unpaused',
  'renamed',
  'devices',
  'moving',
  'stays',
  'ended',
  'gone',
);
export type DomainChange = v.InferOutput<typeof domainChange>;
const domainEvent = fields({
  change: is(domainChange, 'what became of the domain'),
  ...domainIdentity.entries,
  reason: v.optional(is(text(64), 'of `ended` and `gone`: why')),
  details: v.optional(is(words, 'of `ended` and `stays`: more of that, in words')),
  missed: v.optional(
    is(
      count,
      'events before this one that were dropped, as they were not taken in time; 0 if it is left out',
    ),
  ),
});
export type DomainEvent = Readonly<v.InferOutput<typeof domainEvent>>;

const GONE = ['no-such-guest'] as const;
const RESTING = ['no-such-guest', 'bad-state'] as const;

const configParams = {
  config: is(someText(MAX_CONFIG), 'the text of the configuration'),
  file: is(someText(4096), 'the name of its file, for messages'),
  directory: is(someText(4096), 'the directory that relative paths in it are relative to'),
};

/** Requests of people and scripts. */
export const CONTROL = {
  list: request('Lists the domains of this host.', {
    params: {},
    answer: many(domainRow, MAX_DOMAINS),
  }),
  domain: request('Tells of one domain what `list` tells of all.', {
    params: ofGuest,
    answer: domainRow,
    errors: GONE,
  }),
  identity: request('Tells which domain is meant.', {
    params: ofGuest,
    answer: domainIdentity,
    errors: GONE,
  }),
  config: request("Tells a guest's configuration; null where it is not known yet.", {
    params: ofGuest,
    answer: v.nullable(keptGuestConfig),
    errors: GONE,
  }),
  info: request('Tells what this host is.', { params: {}, answer: hostInfo }),
  create: request('Makes a guest of an xl.cfg, and starts it.', {
    params: { ...configParams, paused, overcommit },
    answer: createdRow,
    errors: ['bad-config', 'name-taken', 'bad-state', 'no-room', 'crashed', 'timed-out'],
  }),
  define: request(
    'Makes a guest of an xl.cfg known to this host, and does not start it. A definition of the same guest is replaced, and its autostart stays.',
    { params: configParams, answer: definedRow, errors: ['bad-config', 'name-taken', 'bad-state'] },
  ),
  undefine: request('Forgets what is known of a guest beside its domain; a guest that runs goes on.', {
    params: ofGuest,
    answer: nothing,
    errors: RESTING,
  }),
  defined: request('Lists the guests that this host knows also while they do not run.', {
    params: {},
    answer: many(definedRow, MAX_DOMAINS),
  }),
  crashes: request('Lists what is kept of guests that crashed, the latest last.', {
    params: {},
    answer: many(
      fields({
        ...crash.entries,
        directory: is(text(4096), 'where its console, the output of its process and its core are'),
      }),
      MAX_CRASHES,
    ),
  }),
  start: request('Starts a guest that is known here and does not run.', {
    params: { ...ofGuest, paused, overcommit },
    answer: domainRow,
    errors: [...RESTING, 'bad-config', 'name-taken', 'no-room', 'crashed', 'timed-out'],
  }),
  autostart: request(
    'Says whether a guest is started with its host. One that was not defined is from now on.',
    {
      params: { ...ofGuest, plan: is(v.nullable(autostart), 'when; null: not at all') },
      answer: definedRow,
      errors: RESTING,
    },
  ),
  pause: request('Stops a guest between two instructions, until `unpause`.', {
    params: ofGuest,
    answer: nothing,
    errors: RESTING,
  }),
  unpause: request('Lets a paused guest go on.', { params: ofGuest, answer: nothing, errors: RESTING }),
  shutdown: request('Asks a guest, through its xenstore, to power off.', {
    params: shutdownParams,
    answer: nothing,
    errors: [...RESTING, 'timed-out'],
  }),
  reboot: request('Asks a guest, through its xenstore, to reboot.', {
    params: shutdownParams,
    answer: nothing,
    errors: [...RESTING, 'timed-out'],
  }),
  destroy: request('Ends a guest at once, and removes all traces of it.', {
    params: ofGuest,
    answer: nothing,
    errors: RESTING,
  }),
  rename: request("Gives a guest another name for the host's people; the guest goes on seeing its own.", {
    params: { ...ofGuest, name: is(guestName, 'the new name') },
    answer: nothing,
    errors: [...RESTING, 'name-taken'],
  }),
  save: request('Saves a guest to a file, and ends it, or lets it go on.', {
    params: {
      ...ofGuest,
      path: is(someText(4096), "path of the file, on the daemon's host"),
      keep: v.optional(is(yes, 'whether the guest goes on'), false),
    },
    answer: fields({
      bytes: is(count, 'length of the file', 'bytes'),
      totalMs: is(quantity, 'how long it took', 'ms'),
    }),
    errors: [...RESTING, 'crashed', 'timed-out'],
  }),
  dumpCore: request("Writes a guest's core to a file; the guest stands still meanwhile.", {
    params: { ...ofGuest, path: is(someText(4096), "path of the file, on the daemon's host") },
    answer: fields({ bytes: is(count, 'length of the file', 'bytes') }),
    errors: [...RESTING, 'crashed', 'timed-out'],
  }),
  restore: request('Makes a guest of a file that `save` has written.', {
    params: { path: is(someText(4096), "path of the file, on the daemon's host"), paused, overcommit },
    answer: domainRow,
    errors: ['bad-image', 'name-taken', 'no-room', 'not-trusted', 'bad-state', 'crashed', 'timed-out'],
  }),
  migrate: request('Moves a running guest to another host; `progress` notices come meanwhile.', {
    params: {
      ...ofGuest,
      host: is(someText(320), 'where to: a trusted name, or HOST:PORT'),
      maxDowntimeMs: v.optional(moveOptions.maxDowntimeMs, DEFAULT_MOVE.maxDowntimeMs),
      maxRounds: v.optional(moveOptions.maxRounds, DEFAULT_MOVE.maxRounds),
      timeoutS: v.optional(moveOptions.timeoutS, DEFAULT_MOVE.timeoutS),
      onTimeout: v.optional(moveOptions.onTimeout, DEFAULT_MOVE.onTimeout),
      bandwidthMBs: v.optional(moveOptions.bandwidthMBs, DEFAULT_MOVE.bandwidthMBs),
      clock: moveOptions.clock,
      copyStorage: moveOptions.copyStorage,
    },
    answer: moveStats,
    errors: [...RESTING, 'move-failed', 'move-unsettled', 'not-trusted', 'timed-out'],
  }),
  cancelMove: request('Gives up a move that is under way; when this is answered, the guest goes on here.', {
    params: ofGuest,
    answer: nothing,
    errors: RESTING,
  }),
  settle: request('Decides a move by hand whose destination is lost for good.', {
    params: {
      ...ofGuest,
      keep: v.optional(is(yes, 'whether the guest is kept here; else it lives at the destination'), false),
    },
    answer: nothing,
    errors: RESTING,
  }),
  moves: request('Tells what was measured of the last moves.', {
    params: {},
    answer: many(moveStats, MAX_KEPT_MOVES),
  }),
  blockAttach: request('Plugs a disk into a running guest.', {
    params: { ...ofGuest, spec: is(someText(16_384), "the disk, in xl's syntax") },
    answer: fields({ devid: is(count, 'its number'), vdev: is(text(64), 'its name') }),
    errors: [...RESTING, 'bad-config', 'not-trusted'],
  }),
  blockDetach: request('Unplugs a disk.', {
    params: { ...ofGuest, which: whichDevice, force },
    answer: fields({ devid: is(count, 'its number') }),
    errors: [...RESTING, 'timed-out'],
  }),
  blockList: request("Lists a guest's disks.", {
    params: ofGuest,
    answer: many(diskRow, MAX_DEVICES),
    errors: RESTING,
  }),
  networkAttach: request('Plugs a network interface into a running guest.', {
    params: { ...ofGuest, spec: v.optional(is(text(16_384), "the interface, in xl's syntax"), '') },
    answer: fields({
      devid: is(count, 'its number'),
      mac: is(text(17), 'its hardware address'),
      warnings: warnings('what of its settings has no effect'),
    }),
    errors: RESTING,
  }),
  networkDetach: request('Unplugs a network interface.', {
    params: { ...ofGuest, which: whichDevice, force },
    answer: fields({ devid: is(count, 'its number') }),
    errors: [...RESTING, 'timed-out'],
  }),
  networkList: request("Lists a guest's network interfaces.", {
    params: ofGuest,
    answer: many(networkRow, MAX_DEVICES),
    errors: RESTING,
  }),
  vcpuSet: request('Says how many of its vCPUs a guest shall have online; its kernel acts on that.', {
    params: { ...ofGuest, online: is(whole(1, MAX_VCPUS), 'so many, beginning with the first') },
    answer: nothing,
    errors: RESTING,
  }),
  memSet: request("Says how much memory a guest shall have; its kernel's balloon driver acts on that.", {
    params: { ...ofGuest, targetKib: is(whole(1, MAX_KIB), 'so much, rounded down to pages', 'KiB') },
    answer: nothing,
    errors: RESTING,
  }),
  memMax: request('Says how much memory `memSet` may give to a guest.', {
    params: {
      ...ofGuest,
      maxKib: is(whole(1, MAX_KIB), "not more than `maxmem` of the guest's configuration", 'KiB'),
    },
    answer: nothing,
    errors: RESTING,
  }),
  sysrq: request("Sends a key to a guest's kernel, as Linux's magic SysRq has them.", {
    params: { ...ofGuest, key: is(like(/^[ -~]$/, 'one printable character'), 'the key') },
    answer: nothing,
    errors: RESTING,
  }),
  trigger: request('Gives a vCPU of a guest a non-maskable interrupt.', {
    params: { ...ofGuest, vcpu: v.optional(is(whole(0, MAX_VCPUS - 1), 'the vCPU'), 0) },
    answer: nothing,
    errors: RESTING,
  }),
  configUpdate: request('Gives a guest another configuration, from its next reboot on this host.', {
    params: { ...ofGuest, ...configParams },
    answer: fields({ warnings: warnings('what of the configuration has no effect') }),
    errors: [...RESTING, 'bad-config', 'no-room'],
  }),
  points: request("Tells a guest's migration points.", {
    params: ofGuest,
    answer: many(pointRow, MAX_POINTS),
    errors: RESTING,
  }),
  dmesg: request("Tells the messages of a guest's hypervisor.", {
    params: ofGuest,
    answer: text(MAX_DMESG),
    errors: RESTING,
  }),
  vcpus: request('Lists the vCPUs of one guest, or of all.', {
    params: { guest: v.optional(ofGuest.guest), uuid: ofGuest.uuid },
    answer: many(vcpuRows, MAX_DOMAINS),
    errors: GONE,
  }),
  console: request("Tells a guest's latest console output; `console` notices follow.", {
    params: ofGuest,
    answer: fields({
      latest: is(base64(MAX_CONSOLE_BYTES), 'the latest output, in base64'),
      domid: is(domid, 'domain id on this host'),
      uuid: is(uuid, 'the identity of the guest'),
    }),
    errors: RESTING,
  }),
  leaveConsole: request('No more `console` notices of this guest come.', {
    params: ofGuest,
    answer: nothing,
    errors: GONE,
  }),
  type: request('Types at a console; answers how many bytes were taken.', {
    params: {
      ...ofGuest,
      data: is(v.pipe(base64(MAX_TYPED), v.minLength(1, 'is missing')), 'bytes in base64'),
    },
    answer: count,
    errors: RESTING,
  }),
  gone: request('Is answered when the domain is no more here.', {
    params: ofGuest,
    answer: nothing,
    errors: GONE,
  }),
  events: request('Tells which domains there are; `event` notices follow, one for each change of one.', {
    params: {},
    answer: many(watchedDomain, MAX_DOMAINS),
  }),
  leaveEvents: request('No more `event` notices come.', { params: {}, answer: nothing }),
  trustChanged: request('Somebody changed the files of those who are trusted: they are read again.', {
    params: {},
    answer: nothing,
  }),
};
export type Control = typeof CONTROL;

const about = { uuid: v.optional(is(uuid, 'the guest; left out by version 0.1')) };
/** Notices to people and scripts that have asked for them. */
export const CONTROL_NOTICES = {
  console: notice(
    'A guest has printed something. Of somebody who takes too little, notices are dropped.',
    fields({ data: is(base64(MAX_CONSOLE_BYTES), 'bytes in base64'), ...about }),
  ),
  progress: notice(
    'A move is at this point: after each round, and while disks are copied.',
    v.intersect([anyProgress, fields(about)]),
  ),
  event: notice('Something became of a domain.', domainEvent),
};
