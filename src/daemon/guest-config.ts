/**
 * What the daemon and the runner need of an xl.cfg (read by src/guest/config.ts). What is understood there and not
 * to be had in this container is refused here, with file, line and column.
 */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { readGuestConfig as readXlConfig } from '../guest/config.js';
import { ConfigError } from '../guest/xl-cfg.js';
import type { GuestSpec } from '../helper/guest.js';
import { vbdConfig } from '../helper/kinds/vbd.js';
import { uuidBytes } from '../helper/uuid.js';
import type { GuestConfig } from './guest-runner.js';

/**
 * Throws ConfigError. Relative paths of kernel and ramdisk are relative to `directory`; `makeUuid` is for a guest
 * that has none in its configuration.
 */
export function readGuestConfig(
  source: string,
  file: string,
  directory: string,
  makeUuid: (name: string) => string = () => randomUUID(),
): GuestConfig {
  const config = readXlConfig(source, file);
  const refuse = (setting: string, why: string): never => {
    throw new ConfigError(`${config.place(setting)}: ${why}`);
  };
  if (config.vifs.length > 0) refuse('vif', 'vif is not supported');
  if (config.maxMemoryKib !== config.memoryKib) refuse('maxmem', 'maxmem above memory is not supported');
  if (config.maxVcpus !== config.vcpus) refuse('maxvcpus', 'maxvcpus above vcpus is not supported');
  const place = (given: string | undefined): string =>
    given === undefined ? '' : path.resolve(directory, given);
  return {
    name: config.name,
    uuid: config.uuid ?? makeUuid(config.name),
    vcpus: config.vcpus,
    memoryKib: config.memoryKib,
    maxMemoryKib: config.maxMemoryKib,
    kernel: place(config.kernel),
    ramdisk: place(config.ramdisk),
    cmdline: config.cmdline,
    onPoweroff: config.onPoweroff,
    onReboot: config.onReboot,
    onCrash: config.onCrash,
    clock: config.clock,
    devices: config.disks.map(vbdConfig),
    more: { warnings: config.warnings },
  };
}

/** What the helper needs to switch such a guest on; `kernel` and `ramdisk` are whole files. */
export function guestSpec(
  config: GuestConfig,
  kernel: Uint8Array,
  ramdisk: Uint8Array | undefined,
): GuestSpec {
  return {
    name: config.name,
    uuid: uuidBytes(config.uuid),
    memoryMib: config.memoryKib / 1024,
    vcpus: config.vcpus,
    image: { kernel, ramdisk, cmdline: config.cmdline },
    kernelName: path.basename(config.kernel),
    ramdiskName: config.ramdisk === '' ? '' : path.basename(config.ramdisk),
    clock: config.clock,
    devices: config.devices,
  };
}
