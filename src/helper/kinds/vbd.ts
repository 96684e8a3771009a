/** Disks as a kind of device. */
import { Vbd } from '../../devices/vbd/vbd.js';
import { vbdNodes } from '../../guest/vbd-tree.js';
import { type DiskSpec, readDiskSpec } from '../../protocol/guest-config.js';
import type { DeviceConfig, DeviceKind } from '../devices.js';

export const vbdKind: DeviceKind = {
  driver: (access, spec, log) => new Vbd(access, spec, log),
  nodes: (_devid, spec) => vbdNodes(readDiskSpec(spec)),
};

/** The device for a disk of a configuration. */
export const vbdConfig = (disk: DiskSpec): DeviceConfig => ({
  kind: 'vbd',
  devid: disk.virtualDevice,
  spec: JSON.stringify(disk),
});
