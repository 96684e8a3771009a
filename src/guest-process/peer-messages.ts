/**
 * All that one host's daemon says to another's, as a table: a request, an answer or a notice is held against it before
 * any of it is used. What the table does not name is left out.
 */
import * as v from 'valibot';
import { parseVifSettings } from '../devices/vif/settings.js';
import { nameFault } from '../guest/name.js';
import { checked } from '../protocol/checked.js';
import type { FailureCode } from '../protocol/failure.js';
import type { GuestConfig } from './guest-runner.js';

/** The largest guest that is taken: as large as a container can be. */
const MAX_VCPUS = 8;
const MAX_MEMORY_KIB = 4 * 1024 * 1024;
const MAX_DEVICES = 256;
/** Characters. */
const MAX_PATH = 4096;
const MAX_CMDLINE = 4096;
const MAX_SPEC = 16_384;
const MAX_MORE = 65_536;
/** Of another host's reason. */
const MAX_REASON = 1000;

const whole = (low: number, high: number) =>
  v.pipe(
    v.number(`a number expected`),
    v.integer('a whole number expected'),
    v.minValue(low, `at least ${low} expected`),
    v.maxValue(high, `at most ${high} expected`),
  );
const text = (most: number) =>
  v.pipe(v.string('text expected'), v.maxLength(most, `more than ${most} characters`));
const like = (pattern: RegExp, what: string) =>
  v.pipe(v.string('text expected'), v.regex(pattern, `${what} expected`));

const handover = like(/^[0-9a-f-]{36}$/, 'the id of a hand-over');
const uuid = like(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'a uuid');
const guestName = v.pipe(
  v.string('text expected'),
  v.check(
    (name) => nameFault(name) === undefined,
    (issue) => nameFault(issue.input) ?? '',
  ),
);
/** "" for none. */
const path = v.pipe(text(MAX_PATH), v.regex(/^(\/[^\0]*)?$/, 'a whole path expected'));
const endAction = v.picklist(['destroy', 'restart', 'preserve'], 'destroy, restart or preserve expected');

const diskSpec = v.object({
  target: text(MAX_PATH),
  format: v.picklist(['raw', 'qcow', 'qcow2', 'vhd', 'qed', 'empty']),
  vdev: like(/^[a-z][a-z0-9]{1,15}$/, 'the name of a disk'),
  virtualDevice: whole(0, 0x7fff_ffff),
  readOnly: v.boolean(),
  cdrom: v.boolean(),
});

function isDeviceSpec(kind: string, devid: number, spec: string): boolean {
  try {
    if (kind === 'vif') {
      parseVifSettings(spec);
      return true;
    }
    const disk = v.safeParse(diskSpec, JSON.parse(spec));
    return disk.success && disk.output.virtualDevice === devid;
  } catch {
    return false;
  }
}

const device = v.pipe(
  v.object({
    kind: v.picklist(['vbd', 'vif'], 'vbd or vif expected'),
    devid: whole(0, 0x7fff_ffff),
    spec: text(MAX_SPEC),
  }),
  v.check(({ kind, devid, spec }) => isDeviceSpec(kind, devid, spec), 'no settings of such a device'),
);

const guestConfig = v.pipe(
  v.object({
    name: guestName,
    uuid,
    vcpus: whole(1, MAX_VCPUS),
    onlineVcpus: v.optional(whole(1, MAX_VCPUS)),
    memoryKib: whole(1, MAX_MEMORY_KIB),
    maxMemoryKib: whole(1, MAX_MEMORY_KIB),
    kernel: path,
    ramdisk: path,
    cmdline: text(MAX_CMDLINE),
    onPoweroff: endAction,
    onReboot: endAction,
    onCrash: endAction,
    clock: v.picklist(['elapse', 'freeze'], 'elapse or freeze expected'),
    devices: v.pipe(v.array(device, 'a list expected'), v.maxLength(MAX_DEVICES, 'too many devices')),
    more: v.pipe(
      v.record(v.string(), v.unknown(), 'an object expected'),
      v.check((more) => JSON.stringify(more).length <= MAX_MORE, 'too much'),
    ),
  }),
  v.check(
    ({ devices }) => new Set(devices.map((d) => `${d.kind} ${d.devid}`)).size === devices.length,
    'a device is there twice',
  ),
);

/** A guest's configuration as somebody else has it: a peer, a file, a guest's process. Throws Failure. */
export const checkGuestConfig = (value: unknown, code: FailureCode = 'usage'): GuestConfig =>
  checked(guestConfig, value, "the guest's configuration", code);

/** The request that opens a move. */
export const moveOpenRequest = v.object({
  handover,
  name: guestName,
  uuid,
  vcpus: whole(1, MAX_VCPUS),
  memoryKib: whole(1, MAX_MEMORY_KIB),
  versions: v.pipe(v.array(v.number()), v.maxLength(256)),
  paused: v.optional(v.boolean(), false),
  /** Undefined where the data goes unencrypted, on loopback. */
  key: v.optional(like(/^[0-9a-f]{64}$/, 'a key')),
  /** Of disks that travel with the guest; storage.ts looks at each. */
  disks: v.optional(v.array(v.unknown())),
  /** As the source's daemon has it. Daemons of version 0.1 send none: it is in the stream then. */
  config: v.optional(guestConfig),
});

/** Its answer. */
export const moveOpenAnswer = v.object({
  version: v.number(),
  port: whole(1, 65_535),
  /** "" for the address of the destination's daemon. */
  host: text(255),
  disks: v.optional(v.pipe(v.array(whole(0, 0x7fff_ffff)), v.maxLength(MAX_DEVICES)), []),
});

/** What the source of a move says of it. */
export const toDestinationNotice = v.object({
  handover,
  message: v.picklist(['offer', 'cancel', 'ask', 'forget']),
});

/** A time that is none counts as nothing. */
const ms = v.fallback(v.pipe(v.number(), v.finite(), v.minValue(0)), 0);
const started = v.object({ attachMs: ms, recordMs: ms, startMs: ms });

/** What the destination says of it. */
export const toSourceNotice = v.object({
  handover: text(36),
  message: v.picklist(['ready', 'accepted', 'refused', 'forgotten']),
  reason: v.fallback(
    v.optional(
      v.pipe(
        v.string(),
        v.transform((s) => s.slice(0, MAX_REASON)),
      ),
    ),
    undefined,
  ),
  domid: v.fallback(v.optional(whole(0, 0x7fff)), undefined),
  started: v.fallback(v.optional(started), undefined),
});

/** The answer to `clock`: ns since 1970. */
export const clockAnswer = v.pipe(v.number(), v.finite());

export const helloRequest = v.object({ versions: v.pipe(v.array(v.unknown()), v.maxLength(256)) });
