/**
 * A guest's configuration, as it appears in messages, in the daemon's files, and in the records CONF and RUNR of a
 * saved guest: one declaration for all of them, with its disks and networks.
 */

import * as v from 'valibot';
import { check } from './check.js';
import { checked } from './checked.js';
import { Failure, type FailureCode } from './failure.js';
import { parseJson } from './json.js';
import { nameFault } from './name.js';
import {
  between,
  count,
  fields,
  is,
  like,
  many,
  named,
  oneOf,
  path,
  text,
  uuid,
  whole,
  words,
  yes,
} from './shapes.js';

/** The largest guest that is accepted: as large as a container can be. */
export const MAX_VCPUS = 8;
export const MAX_MEMORY_KIB = 4 * 1024 * 1024;
export const MAX_DEVICES = 256;
const MAX_CMDLINE = 4096;
const MAX_SPEC = 16_384;
const MAX_MORE = 65_536;
const MAX_MTU = 65_535;
const MIN_MTU = 68;
const DEFAULT_MTU = 1500;

export const guestName = v.pipe(
  v.string('text is expected'),
  v.check(
    (name) => nameFault(name) === undefined,
    (issue) => nameFault(issue.input) ?? '',
  ),
);
/** "" for none. */
const wholePath = v.pipe(path, v.regex(/^(\/[^\0]*)?$/, 'a whole path is expected'));
export const endAction = oneOf('destroy', 'restart', 'preserve', 'coredump-destroy', 'coredump-restart');
export const clockPolicy = oneOf('elapse', 'freeze');
export const diskFormat = oneOf('raw', 'qcow', 'qcow2', 'vhd', 'qed', 'empty');
export const virtualDevice = whole(0, 0x7fff_ffff);

/** A disk as it is configured; the same on every host. A field that version 0.1 may omit has its default here. */
export const diskSpec = fields({
  target: is(path, 'absolute path or URL of the image; "" for an empty drive'),
  format: is(diskFormat, 'how the image is to be read'),
  vdev: is(like(/^[a-z0-9]{1,32}$/i, 'the name of a disk'), 'as given: xvda, sda1, hdc'),
  virtualDevice: is(virtualDevice, "the number of vdev in the vbd interface: the device's id in xenstore"),
  readOnly: is(yes, 'whether the guest may only read it'),
  cdrom: is(yes, 'whether it is a drive with a medium'),
  backendType: v.optional(is(oneOf('', 'phy', 'qdisk', 'tap'), '"": chosen by target'), ''),
  discard: v.optional(is(yes, 'whether the guest may discard sectors'), true),
  directIoSafe: v.optional(is(yes, "whether the host's page cache may be passed by"), false),
  trusted: v.optional(is(yes, 'whether the guest is told to trust its back end'), true),
});
export type DiskSpec = Readonly<v.InferOutput<typeof diskSpec>>;
export type DiskFormat = DiskSpec['format'];

const vifRate = fields({
  bytesPerInterval: is(
    v.pipe(v.number('a number is expected'), v.minValue(1)),
    'what may pass in it',
    'bytes',
  ),
  intervalUs: is(v.pipe(v.number('a number is expected'), v.minValue(1)), 'the interval', 'µs'),
});
/** Text, or "" if it is missing, as in version 0.1. */
const perhapsText = v.fallback(v.optional(v.string(), ''), '');

/** A vif as it is configured: what the guest sees of it, and the network of the host to which it belongs. */
export const vifSettings = fields({
  mac: is(like(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/, 'a hardware address'), 'its hardware address'),
  mtu: v.fallback(
    v.optional(is(between(MIN_MTU, MAX_MTU), 'the longest packet', 'bytes'), DEFAULT_MTU),
    DEFAULT_MTU,
  ),
  bridge: is(perhapsText, 'a host\'s name for the network; "" for the host\'s default'),
  ip: is(perhapsText, 'addresses that the guest may use; "" for any'),
  gatewayDevice: is(perhapsText, 'as libxl writes it into xenstore'),
  vifName: is(perhapsText, "name of the host's side of it"),
  rate: v.optional(v.nullable(is(vifRate, 'the most that it may send; null for no limit')), null),
  antispoof: v.fallback(v.optional(is(v.boolean(), 'whether it is held to its own addresses'), true), true),
  trusted: v.fallback(
    v.optional(is(v.boolean(), 'whether the guest is told to trust its back end'), true),
    true,
  ),
  token: is(
    perhapsText,
    'shows a switch that the vif is the same on another host; "" in settings of version 0.1',
  ),
});
export type VifSettings = Readonly<v.InferOutput<typeof vifSettings>>;

/** Parses foreign JSON and checks its shape. Throws ProtocolError. */
function parsed<S extends v.GenericSchema>(shape: S, json: string, what: string): v.InferOutput<S> {
  let value: unknown;
  try {
    value = parseJson(json);
  } catch {
    // It is not an object either, and the check says so.
  }
  return check(shape, value, what);
}

/** Parses the `spec` of a disk device. Throws a Failure that says what is wrong with it. */
export function readDiskSpec(json: string): DiskSpec {
  try {
    return parsed(diskSpec, json, 'the settings of a disk');
  } catch (error) {
    throw new Failure('bad-config', error instanceof Error ? error.message : String(error));
  }
}
/** The disks among the devices of a configuration. Throws a Failure that says what is wrong with one. */
export const disksOf = (devices: readonly { readonly kind: string; readonly spec: string }[]): DiskSpec[] =>
  devices.filter(({ kind }) => kind === 'vbd').map(({ spec }) => readDiskSpec(spec));

/** Parses the `spec` of a vif device. Throws ProtocolError. */
export const readVifSettings = (json: string): VifSettings =>
  parsed(vifSettings, json, 'the settings of a vif');

function isDeviceSpec(kind: string, devid: number, spec: string): boolean {
  try {
    if (kind === 'vif') return readVifSettings(spec) !== undefined;
    return readDiskSpec(spec).virtualDevice === devid;
  } catch {
    return false;
  }
}

/** Declared as text, because there may be more kinds. */
const deviceKind = v.pipe(
  text(16),
  v.check((kind) => kind === 'vbd' || kind === 'vif', 'vbd or vif is expected'),
);
const deviceFields = {
  devid: is(virtualDevice, 'its number'),
  spec: is(text(MAX_SPEC), 'its settings: JSON of a disk or a network, below'),
};
const device = v.pipe(
  fields({ kind: is(deviceKind, 'vbd, a disk, or vif, a network'), ...deviceFields }),
  v.check(({ kind, devid, spec }) => isDeviceSpec(kind, devid, spec), 'no settings of such a device'),
);

const sizes = {
  vcpus: is(whole(1, MAX_VCPUS), 'the most vCPUs that it may have (maxvcpus)'),
  onlineVcpus: v.optional(
    is(whole(1, MAX_VCPUS), 'vCPUs that are online at power-on; all, if it is left out'),
  ),
  memoryKib: is(whole(1, MAX_MEMORY_KIB), 'memory at power-on', 'KiB'),
  maxMemoryKib: is(whole(1, MAX_MEMORY_KIB), 'the most memory that it may have', 'KiB'),
};
const policies = {
  onPoweroff: is(endAction, 'what follows when it powers off'),
  onReboot: is(endAction, 'what follows when it reboots'),
  onCrash: is(endAction, 'what follows when it crashes'),
  clock: is(clockPolicy, 'what an outage is to it: stolen time, or none (docs/migration-points.md)'),
};

/** A foreign configuration, checked against everything that a guest of ours can be. */
export const guestConfig = v.pipe(
  fields({
    name: is(guestName, 'what people call it'),
    uuid: is(uuid, 'its identity, for as long as it lives'),
    ...sizes,
    kernel: is(wholePath, 'path of the kernel on the host; "" for none'),
    ramdisk: is(wholePath, 'path of the initial RAM disk; "" for none'),
    cmdline: is(text(MAX_CMDLINE), "the kernel's command line"),
    ...policies,
    devices: is(many(device, MAX_DEVICES), 'disks and networks'),
    more: is(
      v.pipe(
        named(v.unknown()),
        v.check((more) => JSON.stringify(more).length <= MAX_MORE, `it has more than ${MAX_MORE} characters`),
      ),
      'what else the runner wants to know; kept and given back, and not looked into',
    ),
  }),
  v.check(
    ({ devices }) => new Set(devices.map((d) => `${d.kind} ${d.devid}`)).size === devices.length,
    'a device is there twice',
  ),
);

/** Throws a Failure that names the field. */
export const checkGuestConfig = (value: unknown, code: FailureCode = 'usage'): GuestConfig =>
  checked(guestConfig, value, "the guest's configuration", code);

/** The configuration in a record CONF or RUNR of a stream: JSON. Throws Failure, which names the field. */
export function readConfigRecord(json: string): GuestConfig {
  let value: unknown;
  try {
    value = parseJson(json);
  } catch {
    // No object either, and said to be none.
  }
  return checkGuestConfig(value, 'bad-image');
}

/** A device of any kind, as in a message of a guest's process or in an older file. */
export const deviceConfig = fields({
  kind: is(text(16), 'vbd or vif'),
  devid: is(count, 'its number'),
  spec: is(text(MAX_SPEC), 'its settings, JSON'),
});

/**
 * The same configuration when this host has accepted it before: from its own files, and from the guest's process.
 * Types and sizes are checked; whatever an earlier version accepted is still accepted.
 */
export const keptGuestConfig = fields({
  name: is(text(256), 'what people call it'),
  uuid: is(uuid, 'its identity, for as long as it lives'),
  vcpus: is(whole(1, 128), 'the most vCPUs that it may have (maxvcpus)'),
  onlineVcpus: v.optional(is(whole(1, 128), 'vCPUs that are online at power-on; all, if it is left out')),
  memoryKib: is(count, 'memory at power-on', 'KiB'),
  maxMemoryKib: is(count, 'the most memory that it may have', 'KiB'),
  kernel: is(path, 'path of the kernel on the host; "" for none'),
  ramdisk: is(path, 'path of the initial RAM disk; "" for none'),
  cmdline: is(text(MAX_CMDLINE), "the kernel's command line"),
  ...policies,
  devices: is(many(deviceConfig, MAX_DEVICES), 'disks and networks'),
  more: is(named(v.unknown(), 256), "the runner's own affair; kept and given back, and not looked into"),
});
export type GuestConfig = Readonly<v.InferOutput<typeof keptGuestConfig>>;

const MAX_ORDER = 9999;
const MAX_DELAY_S = 3600;
/** When a guest is started with its host. */
export const autostart = fields({
  order: is(whole(0, MAX_ORDER), 'those with a lower one are started first'),
  delayS: is(between(0, MAX_DELAY_S), 'from when its turn has come until it is started', 's'),
});
export type AutostartPlan = Readonly<v.InferOutput<typeof autostart>>;

export const endReason = oneOf(
  'poweroff',
  'reboot',
  'crash',
  'destroyed',
  'moved',
  'saved',
  'discarded',
  'failed',
);
export const guestExit = fields({
  reason: is(endReason, 'why it ended'),
  details: is(words, 'more of that, in words'),
  lost: v.optional(is(yes, 'whether its process ended without saying why: it was killed, or its host was')),
});
