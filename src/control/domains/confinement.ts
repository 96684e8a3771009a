/**
 * What a guest's process may use on this host: its resource limits and, if the daemon does not run as root and all
 * its guests therefore have the same user, the files and sockets that belong to it. All of this comes from what the
 * daemon knows, and nothing from what the process says.
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
  /** The user of the process; undefined if it is the daemon's own user. */
  readonly uid: number | undefined;
  /** The guest's disks; undefined while they are not known. */
  readonly disks: readonly DiskSpec[] | undefined;
  /** Images that this host made for disks that arrive with the guest. */
  readonly images: readonly string[];
  readonly unconfined: boolean;
  /** A directory with the code of the process, which it must be able to read. */
  readonly code: string | undefined;
}

const MIB = 1 << 20;

export function confinementOf(c: Confined): Omit<LauncherOptions, 'runner'> {
  const reach = c.platform.reach(c.disks ?? []);
  return {
    files: c.uid === undefined ? filesOf(c, reach) : null,
    limits: {
      // RLIMIT_NPROC counts a user's processes, so it limits one guest only if the user is that guest's own.
      processes: c.uid === undefined ? undefined : c.config.guestProcesses,
      fileBytes:
        c.disks === undefined || reach.longestFile === undefined
          ? undefined
          : Math.max(c.config.guestFileMib * MIB, reach.longestFile),
    },
    unconfined: c.unconfined,
  };
}

function filesOf({ dir, config, images, disks, code }: Confined, reach: HostReach): VisibleFiles {
  return {
    hidden: dir,
    writable: [...reach.writable, ...images, ...config.guestFolders],
    readable: code === undefined ? reach.readable : [...reach.readable, code],
    sockets: reach.sockets,
    anyDisk: disks === undefined,
  };
}
