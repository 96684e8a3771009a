/** The xenstore nodes that the toolstack makes for a disk, in libxl's order. Source: tools/libs/light/libxl_disk.c. */

import type { DiskSpec } from '../protocol/guest-config.js';
import type { DeviceTreeInput } from './device-tree.js';

export function vbdNodes(disk: DiskSpec): Omit<DeviceTreeInput, 'domid'> {
  const type = disk.cdrom ? 'cdrom' : 'disk';
  const raw = disk.format === 'raw' && disk.backendType !== 'qdisk';
  return {
    kind: 'vbd',
    devid: disk.virtualDevice,
    back: {
      params: raw || disk.target === '' ? disk.target : `${disk.format}:${disk.target}`,
      removable: disk.cdrom ? 1 : 0,
      bootable: 1,
      dev: disk.vdev,
      type: raw ? 'phy' : 'qdisk',
      mode: disk.readOnly ? 'r' : 'w',
      'device-type': type,
      'discard-enable': disk.discard ? 1 : 0,
      specification: 'xen',
    },
    front: {
      'virtual-device': disk.virtualDevice,
      'device-type': type,
      trusted: disk.trusted ? 1 : 0,
    },
  };
}
