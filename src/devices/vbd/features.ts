/**
 * What a disk offers to its front end, and what both have agreed on.
 *
 * Invariant: what was announced and agreed stays the same until the front end closes, whatever link the disk has by
 * then. What a link cannot do is done by the back end. Source: xen/include/public/io/blkif.h.
 */
import { VDISK_CDROM, VDISK_READONLY, XEN_IO_PROTO_ABI_X86_64 } from '../../xen/blkif.js';
import { type FrontEnd, type Nodes, XenbusError } from '../xenbus.js';
import type { DiskGeometry } from './disk-link.js';

/**
 * The limits of Linux's back end: xen_blkif_max_segments, XENBUS_MAX_RING_GRANT_ORDER, and the persistent grants that
 * max_buffer_pages allows.
 */
export const MAX_INDIRECT_SEGMENTS = 256;
const MAX_RING_PAGE_ORDER = 4;
const MAX_QUEUES = 4;
export const MAX_PERSISTENT_GRANTS_PER_QUEUE = 1056;

/** A disk as its guest sees it, from the moment at which it was plugged in. */
export interface DiskIdentity extends DiskGeometry {
  readonly cdrom: boolean;
}

/** What a front end has chosen. */
interface Agreement {
  readonly persistent: boolean;
  /** For each queue, the grant references of its ring's pages and its event-channel port. */
  readonly queues: readonly { readonly refs: readonly number[]; readonly port: number }[];
}

export function offeredNodes(): Nodes {
  return {
    'feature-max-indirect-segments': MAX_INDIRECT_SEGMENTS,
    'multi-queue-max-queues': MAX_QUEUES,
    'max-ring-page-order': MAX_RING_PAGE_ORDER,
    'hotplug-status': 'connected',
  };
}

export function connectNodes(disk: DiskIdentity): Nodes {
  return {
    'feature-flush-cache': 1,
    ...(disk.discard === undefined || disk.readOnly
      ? {}
      : {
          'discard-granularity': disk.discard.granularity,
          'discard-alignment': disk.discard.alignment,
          'discard-secure': 0,
          'feature-discard': 1,
        }),
    'feature-barrier': 1,
    'feature-persistent': 1,
    sectors: disk.sectors,
    info: (disk.cdrom ? VDISK_CDROM : 0) | (disk.readOnly ? VDISK_READONLY : 0),
    'sector-size': disk.sectorBytes,
    'physical-sector-size': disk.physicalSectorBytes,
  };
}

/** Reads and checks what the front end wrote. Throws XenbusError. */
export function readAgreement(front: FrontEnd): Agreement {
  const protocol = front.text('protocol') ?? XEN_IO_PROTO_ABI_X86_64;
  if (protocol !== XEN_IO_PROTO_ABI_X86_64 && protocol !== 'native')
    throw new XenbusError(
      `protocol "${protocol.slice(0, 32)}" is not supported (${XEN_IO_PROTO_ABI_X86_64})`,
    );
  const count = front.optional('multi-queue-num-queues', MAX_QUEUES) ?? 1;
  if (count === 0) throw new XenbusError('multi-queue-num-queues is 0');
  const order = front.optional('ring-page-order', MAX_RING_PAGE_ORDER) ?? 0;
  const queues = Array.from({ length: count }, (_, i) => {
    const prefix = count === 1 ? '' : `queue-${i}/`;
    return {
      refs: ringRefs(front, prefix, 1 << order),
      port: front.number(`${prefix}event-channel`, 0xffff),
    };
  });
  return { persistent: front.flag('feature-persistent'), queues };
}

function ringRefs(front: FrontEnd, prefix: string, pages: number): number[] {
  // The node of a ring of one page may be named with or without the number 0.
  if (pages === 1) {
    const one = front.optional(`${prefix}ring-ref`, 0xffff_ffff);
    if (one !== undefined) return [one];
  }
  return Array.from({ length: pages }, (_, i) => front.number(`${prefix}ring-ref${i}`, 0xffff_ffff));
}
