/** What the daemon and the runner need from an xl.cfg (which src/guest/config.ts parses). */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import * as v from 'valibot';
import { vifSettings } from '../devices/vif/settings.js';
import {
  BOOT_LOADER,
  type BootLoaderSettings,
  bootLoaderSettings,
  NO_SETTINGS,
  withSettings,
} from '../guest/boot-loader.js';
import type { GuestImage } from '../guest/builder.js';
import { MAX_GRANT_FRAMES, mostOfQuota, readXlConfig } from '../guest/config.js';
import type { VifSpec } from '../guest/vif-spec.js';
import type { DeviceConfig } from '../helper/devices.js';
import type { GuestSpec } from '../helper/guest.js';
import { vbdConfig } from '../helper/kinds/vbd.js';
import { uuidBytes } from '../helper/uuid.js';
import { findBootLoader } from '../os/boot-loader.js';
import { localOffsetS } from '../os/clock.js';
import type { GuestConfig } from '../protocol/guest-config.js';

/**
 * Throws ConfigError. Relative paths of kernel and ramdisk are relative to `directory`; `makeUuid` is called for a
 * guest without a uuid in its configuration.
 */
export function readGuestConfig(
  source: string,
  file: string,
  directory: string,
  makeUuid: (name: string) => string = () => randomUUID(),
): GuestConfig {
  const config = readXlConfig(source, file);
  const place = (given: string | undefined): string =>
    given === undefined ? '' : path.resolve(directory, given);
  const uuid = config.uuid ?? makeUuid(config.name);
  return {
    name: config.name,
    uuid,
    vcpus: config.maxVcpus,
    onlineVcpus: config.vcpus,
    memoryKib: config.memoryKib,
    maxMemoryKib: config.maxMemoryKib,
    kernel: config.bootLoader === undefined ? place(config.kernel) : BOOT_LOADER,
    ramdisk: place(config.ramdisk),
    cmdline: config.cmdline,
    onPoweroff: config.onPoweroff,
    onReboot: config.onReboot,
    onCrash: config.onCrash,
    clock: config.clock,
    devices: [
      ...config.disks.map(vbdConfig),
      ...config.vifs.map((vif, i) => vifConfig(vif, vif.devid ?? i, uuid)),
    ],
    more: {
      warnings: config.warnings,
      ...(config.bootLoader !== undefined && { bootLoader: config.bootLoader }),
      clockOffsetS: config.clockOffsetS + (config.localTime ? localOffsetS() : 0),
      ...(config.maxGrantFrames === undefined ? {} : { grantFrames: config.maxGrantFrames }),
      xenstoreQuotas: config.xenstoreQuotas,
    },
  };
}

const MAX_OFFSET_S = 2 ** 31 - 1;
const isWhole = (value: unknown, low: number, high: number): value is number =>
  Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high;

/**
 * What `readGuestConfig` has put into `more`, which may have come from another host or version: what cannot be is left
 * out.
 */
function readMore({ clockOffsetS, grantFrames, xenstoreQuotas }: GuestConfig['more']) {
  const quotas = Object.entries(xenstoreQuotas ?? {}).filter(([name, value]) =>
    isWhole(value, 1, mostOfQuota(name)),
  );
  return {
    clockOffsetS: isWhole(clockOffsetS, -MAX_OFFSET_S, MAX_OFFSET_S) ? clockOffsetS : 0,
    grantFrames: isWhole(grantFrames, 1, MAX_GRANT_FRAMES) ? grantFrames : undefined,
    xenstoreQuotas: Object.fromEntries(quotas),
  };
}

/** Where a kernel is on this host; `kernel` is as a guest's configuration has it. Throws a Failure. */
export const kernelFile = (kernel: string): string => (kernel === BOOT_LOADER ? findBootLoader() : kernel);

/**
 * The contents of the first kernel of a power cycle: a boot loader is told its guest's settings. `missing`: what this image
 * of a boot loader does not do. Throws KernelError.
 */
export function firstKernel(
  config: GuestConfig,
  contents: Uint8Array,
): { readonly image: Uint8Array; readonly missing?: string } {
  if (config.kernel !== BOOT_LOADER) return { image: contents };
  return withSettings(contents, loaderSettings(config));
}

/** What its boot loader has loaded, as a guest that begins with it; like pygrub, with what the configuration adds. */
export function loadedSpec(config: GuestConfig, { kernel, ramdisk, cmdline }: GuestImage): GuestSpec {
  const { args } = loaderSettings(config);
  const line = [cmdline, args].filter((part) => part !== '').join(' ');
  return { ...guestSpec(config, kernel, ramdisk), image: { kernel, ramdisk, cmdline: line } };
}

/** As `readMore`: settings that are none are left out. */
function loaderSettings({ more }: GuestConfig): BootLoaderSettings {
  const { success, output } = v.safeParse(bootLoaderSettings, more.bootLoader);
  return success ? output : NO_SETTINGS;
}

/** The description from which the helper starts such a guest; `kernel` and `ramdisk` are the contents of the files. */
export function guestSpec(
  config: GuestConfig,
  kernel: Uint8Array,
  ramdisk: Uint8Array | undefined,
): GuestSpec {
  const { clockOffsetS, grantFrames, xenstoreQuotas } = readMore(config.more);
  return {
    name: config.name,
    uuid: uuidBytes(config.uuid),
    memoryMib: config.memoryKib / 1024,
    maxMemoryMib: config.maxMemoryKib / 1024,
    vcpus: config.vcpus,
    onlineVcpus: config.onlineVcpus,
    image: { kernel, ramdisk, cmdline: config.cmdline },
    kernelName: path.basename(config.kernel),
    ramdiskName: config.ramdisk === '' ? '' : path.basename(config.ramdisk),
    clock: config.clock,
    clockOffsetS,
    grantFrames,
    xenstoreQuotas,
    devices: config.devices,
  };
}

/**
 * A vif as a device of a guest. A vif without an address gets one that is derived from the guest's uuid, so that it
 * is always the same.
 */
export function vifConfig(vif: VifSpec, devid: number, uuid: string): DeviceConfig {
  const made = createHash('sha256').update(`${uuid} vif ${devid}`).digest();
  const token = randomBytes(16).toString('hex');
  return { kind: 'vif', devid, spec: JSON.stringify(vifSettings(vif, made, token)) };
}
