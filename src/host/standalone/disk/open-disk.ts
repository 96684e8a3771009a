/** Opens what a disk's configuration names on this host. */
import type { DiskLink } from '../../../devices/vbd/disk-link.js';
import { EmptyLink } from '../../../devices/vbd/empty-link.js';
import type { DiskSpec } from '../../../guest/disk-spec.js';
import { FileLink } from './file-link.js';

/** Rejects with a message for people. */
export async function openDisk(spec: DiskSpec): Promise<DiskLink> {
  const { target, format, readOnly, discard } = spec;
  if (format === 'empty') return new EmptyLink();
  if (format === 'raw' && target.startsWith('/')) return FileLink.open({ path: target, readOnly, discard });
  throw new Error(`disk ${target}: format ${format} is not supported`);
}
