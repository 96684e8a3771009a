/** Reads or writes a file directly into or from the guest's memory. */
import { readSync, readvSync, writeSync, writevSync } from 'node:fs';
import { DISK_READ } from '../../devices/vbd/disk-link.js';
import type { SlotRequest } from './file-ring.js';

const SECTOR_BYTES = 512;
export const EIO = 5;

/** The errno of an error that a system call threw. */
export const errnoOf = (error: unknown): number => Math.abs((error as NodeJS.ErrnoException).errno ?? EIO);

/** Reads or writes all extents. A partial transfer is continued where it stopped. Returns 0 or an errno. */
export function transferFile(fd: number, u8: Uint8Array, request: SlotRequest): number {
  try {
    return transfer(fd, u8, request);
  } catch (error) {
    return errnoOf(error);
  }
}

function transfer(fd: number, u8: Uint8Array, request: SlotRequest): number {
  const { nrExtents, address, length } = request;
  const reads = request.operation === DISK_READ;
  let position = request.sector * SECTOR_BYTES;
  let first = 0;
  let skip = 0;
  while (first < nrExtents) {
    const from = u8.subarray(address[first] + skip, address[first] + length[first]);
    let moved: number;
    if (first === nrExtents - 1) {
      moved = reads
        ? readSync(fd, from, 0, from.length, position)
        : writeSync(fd, from, 0, from.length, position);
    } else {
      const all = [from];
      for (let i = first + 1; i < nrExtents; i++) all.push(u8.subarray(address[i], address[i] + length[i]));
      moved = reads ? readvSync(fd, all, position) : writevSync(fd, all, position);
    }
    if (moved === 0 && reads && position % SECTOR_BYTES !== 0) {
      // The file ends within its last sector.
      moved = SECTOR_BYTES - (position % SECTOR_BYTES);
      from.fill(0, 0, moved);
    }
    if (moved === 0) return EIO;
    position += moved;
    skip += moved;
    while (first < nrExtents && skip >= length[first]) skip -= length[first++];
  }
  return 0;
}
