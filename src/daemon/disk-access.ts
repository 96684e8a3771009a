/**
 * A guest process that runs as a user of its own gets the disks that it writes: the daemon, which is root then, makes
 * that user their owner. Invariant: only files and devices that the guest's configuration names are given.
 */
import { chownSync } from 'node:fs';
import type { DiskSpec } from '../guest/disk-spec.js';
import type { DeviceConfig } from '../helper/devices.js';
import { type ImageFolders, placeOf } from '../host/standalone/disk/place.js';

/** `uid`: the guest process's user, undefined where it is our own. What is wrong with a disk is said when it is opened. */
export function giveDisks(
  devices: readonly DeviceConfig[],
  uid: number | undefined,
  folders: ImageFolders,
): void {
  if (uid === undefined) return;
  for (const { kind, spec } of devices) {
    if (kind !== 'vbd') continue;
    const { target, readOnly } = JSON.parse(spec) as DiskSpec;
    if (readOnly || !target.startsWith('/')) continue;
    try {
      chownSync(placeOf(target, folders), uid, uid);
    } catch {
      // Not there, or not ours to give: the guest process will find it so.
    }
  }
}
