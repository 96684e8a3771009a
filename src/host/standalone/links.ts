/** The links that a host without Xen provides for devices. They are opened in the guest's process, with its rights. */
import type { HostLinks } from '../../devices/links.js';
import { prepareFlock } from '../../os/flock.js';
import type { FolderMap } from '../../os/folder-map.js';
import { readDiskSpec } from '../../protocol/guest-config.js';
import { openDisk } from '../disk/open-disk.js';
import { type Networks, vifLinks } from '../net/networks.js';

export interface LinkOptions {
  readonly networks: Networks;
  readonly images?: FolderMap;
  readonly log: (line: string) => void;
}

export function standaloneLinks({ networks, images, log }: LinkOptions): HostLinks {
  return {
    vbd: (_devid, spec) => openDisk(readDiskSpec(spec), images),
    expectDisks: () => void prepareFlock(),
    vif: vifLinks(networks, log),
  };
}
