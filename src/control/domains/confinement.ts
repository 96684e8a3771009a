/**
 * What a guest's process may have on this host: the limits on it, and, on a daemon without root, whose guests all have
 * one user, the files and sockets that are its own. From what the daemon knows, never from what the process says.
 */
import type { LauncherOptions } from '../../guest-process/guest-launcher.js';
import type { HostPlatform, HostReach } from '../../host/platform.js';
import type { VisibleFiles } from '../../os/sandbox.js';
import type { DiskSpec } from '../../protocol/guest-config.js';
import type { HostConfig } from '../host-config.js';

export interface Confined {
  /** The daemon's directory. */
  readonly dir: string;
  readonly config: HostConfig;
  readonly platform: HostPlatform;
  /** The process's user, undefined where it is ours. */
  readonly uid: number | undefined;
  /** The guest's; undefined where they are not known yet. */
  readonly disks: readonly DiskSpec[] | undefined;
  /** Images that were made for disks that come with it. */
  readonly images: readonly string[];
  readonly unconfined: boolean;
}

const MIB = 1 << 20;

export function confinementOf(c: Confined): Omit<LauncherOptions, 'runner'> {
  const reach = c.platform.reach(c.disks ?? []);
  return {
    files: c.uid === undefined ? filesOf(c, reach) : null,
    limits: {
      // A limit on a user's processes is a limit on the guest's only where the user is the guest's own.
      processes: c.uid === undefined ? undefined : c.config.guestProcesses,
      fileBytes:
        c.disks === undefined || reach.longestFile === undefined
          ? undefined
          : Math.max(c.config.guestFileMib * MIB, reach.longestFile),
    },
    unconfined: c.unconfined,
  };
}

function filesOf({ dir, config, images, disks }: Confined, reach: HostReach): VisibleFiles {
  return {
    hidden: dir,
    writable: [...reach.writable, ...images, ...config.guestFolders],
    readable: reach.readable,
    sockets: reach.sockets,
    anyDisk: disks === undefined,
  };
}
