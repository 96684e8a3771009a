/** Disks as a kind of device. */
import { Vbd } from '../../devices/vbd/vbd.js';
import type { DiskSpec } from '../../guest/disk-spec.js';
import { vbdNodes } from '../../guest/vbd-tree.js';
import type { DeviceConfig, DeviceKind } from '../devices.js';

export const vbdKind: DeviceKind = {
  driver: (access, spec, log) => new Vbd(access, spec, log),
  nodes: (_devid, spec) => vbdNodes(JSON.parse(spec) as DiskSpec),
};

/** A disk of a configuration as a device. */
export const vbdConfig = (disk: DiskSpec): DeviceConfig => ({
  kind: 'vbd',
  devid: disk.virtualDevice,
  spec: JSON.stringify(disk),
});
