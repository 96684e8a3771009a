/** The links that a host without Xen has for devices: opened in the guest's process, with its rights. */
import type { HostLinks } from '../../devices/links.js';
import type { DiskSpec } from '../../guest/disk-spec.js';
import { openDisk } from './disk/open-disk.js';

export function standaloneLinks(): HostLinks {
  return {
    vbd: (_devid, spec) => openDisk(JSON.parse(spec) as DiskSpec),
  };
}
