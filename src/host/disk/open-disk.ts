/** Opens the disk that a configuration names, on this host. */
import type { DiskLink } from '../../devices/vbd/disk-link.js';
import { EmptyLink } from '../../devices/vbd/empty-link.js';
import { type FolderMap, pathHere } from '../../os/folder-map.js';
import type { DiskSpec } from '../../protocol/guest-config.js';
import { FileLink } from './file-link.js';
import { isNbd, parseNbd } from './nbd-address.js';
import { NbdLink } from './nbd-link.js';
import { openQemuImage, type QemuImage } from './qemu-nbd.js';

/** Opens a disk. Rejects with a message for the user. */
export async function openDisk(spec: DiskSpec, folders: FolderMap = {}): Promise<DiskLink> {
  const { target, format, readOnly, discard } = spec;
  if (format === 'empty') return new EmptyLink();
  if (isNbd(target)) {
    if (format !== 'raw') throw new Error(`disk ${target}: a disk behind NBD is raw, not ${format}`);
    return NbdLink.open({ name: target, readOnly, discard, ...parseNbd(target) });
  }
  if (!target.startsWith('/')) throw new Error(`disk ${target}: addresses of this kind are not supported`);
  return openImage({ path: pathHere(target, folders), format, readOnly, discard });
}

/** Opens a file or a device of this host. */
export function openImage(image: QemuImage): Promise<DiskLink> {
  return image.format === 'raw' ? FileLink.open(image) : openQemuImage(image);
}
