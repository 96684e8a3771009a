/** A thread of a file link: does transfers one after the other, between the file and the guest's memory in place. */
import { spawnSync } from 'node:child_process';
import { fdatasyncSync, readSync, readvSync, writeSync, writevSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { DISK_DISCARD, DISK_FLUSH, DISK_READ } from '../../../devices/vbd/disk-link.js';
import { FileRing, MAX_EXTENTS, type SlotRequest } from './file-ring.js';
import { PROGRAM_ENV } from './programs.js';

export interface FileWorkerData {
  readonly ring: SharedArrayBuffer;
  readonly memory: SharedArrayBuffer;
  readonly fd: number;
}

const SECTOR_BYTES = 512;
const EIO = 5;

const { ring: buffer, memory, fd } = workerData as FileWorkerData;
const ring = new FileRing(buffer);
const u8 = new Uint8Array(memory);
const request: SlotRequest = {
  operation: 0,
  sector: 0,
  sectors: 0,
  nrExtents: 0,
  address: new Uint32Array(MAX_EXTENTS),
  length: new Uint32Array(MAX_EXTENTS),
};

const piece = (i: number, skip = 0): Uint8Array =>
  u8.subarray(request.address[i] + skip, request.address[i] + request.length[i]);

/** Reads or writes all extents; a transfer that was cut short goes on where it stopped. */
function transfer(): number {
  const reads = request.operation === DISK_READ;
  let position = request.sector * SECTOR_BYTES;
  let first = 0;
  let skip = 0;
  while (first < request.nrExtents) {
    let moved: number;
    if (first === request.nrExtents - 1) {
      const one = piece(first, skip);
      moved = reads
        ? readSync(fd, one, 0, one.length, position)
        : writeSync(fd, one, 0, one.length, position);
    } else {
      const all = [piece(first, skip)];
      for (let i = first + 1; i < request.nrExtents; i++) all.push(piece(i));
      moved = reads ? readvSync(fd, all, position) : writevSync(fd, all, position);
    }
    if (moved === 0) return EIO;
    position += moved;
    skip += moved;
    while (first < request.nrExtents && skip >= request.length[first]) skip -= request.length[first++];
  }
  return 0;
}

/** Node has no fallocate: the program of the same name does it, on our descriptor. */
function discard(): number {
  const args = ['--punch-hole', '--keep-size'];
  args.push('--offset', String(request.sector * SECTOR_BYTES));
  args.push('--length', String(request.sectors * SECTOR_BYTES), '/dev/fd/3');
  const { status } = spawnSync('fallocate', args, {
    stdio: ['ignore', 'ignore', 'ignore', fd],
    env: PROGRAM_ENV,
  });
  return status === 0 ? 0 : EIO;
}

function serve(): number {
  try {
    if (request.operation === DISK_FLUSH) fdatasyncSync(fd);
    else if (request.operation === DISK_DISCARD) return request.sectors === 0 ? 0 : discard();
    else return transfer();
    return 0;
  } catch (error) {
    return Math.abs((error as NodeJS.ErrnoException).errno ?? EIO);
  }
}

for (let slot = ring.take(); slot >= 0; slot = ring.take()) {
  ring.read(slot, request);
  if (ring.finish(slot, serve())) parentPort?.postMessage(0);
}
