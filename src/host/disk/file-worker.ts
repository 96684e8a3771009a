/** A thread of a file link. It does one transfer after the other, directly between the file and the guest's memory. */
import { spawnSync } from 'node:child_process';
import { fdatasyncSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { DISK_DISCARD, DISK_FLUSH } from '../../devices/vbd/disk-link.js';
import { PROGRAM_ENV } from '../../os/program-environment.js';
import { FileRing, MAX_EXTENTS, type SlotRequest } from './file-ring.js';
import { EIO, errnoOf, transferFile } from './file-transfer.js';

export interface FileWorkerData {
  readonly ring: SharedArrayBuffer;
  readonly memory: SharedArrayBuffer;
  readonly fd: number;
  /** Whether the file is a block device. */
  readonly device: boolean;
}

const SECTOR_BYTES = 512;

const { ring: buffer, memory, fd, device } = workerData as FileWorkerData;
const ring = FileRing.over(buffer);
const u8 = new Uint8Array(memory);
const request: SlotRequest = {
  operation: 0,
  sector: 0,
  sectors: 0,
  nrExtents: 0,
  address: new Uint32Array(MAX_EXTENTS),
  length: new Uint32Array(MAX_EXTENTS),
};

/** Node has neither fallocate nor BLKDISCARD, so programs of util-linux do it on our file descriptor. */
function discard(): number {
  const args = device ? [] : ['--punch-hole', '--keep-size'];
  args.push('--offset', String(request.sector * SECTOR_BYTES));
  args.push('--length', String(request.sectors * SECTOR_BYTES), '/dev/fd/3');
  const { status } = spawnSync(device ? 'blkdiscard' : 'fallocate', args, {
    stdio: ['ignore', 'ignore', 'ignore', fd],
    env: PROGRAM_ENV,
  });
  return status === 0 ? 0 : EIO;
}

function serve(): number {
  if (request.operation === DISK_DISCARD) return request.sectors === 0 ? 0 : discard();
  if (request.operation !== DISK_FLUSH) return transferFile(fd, u8, request);
  try {
    fdatasyncSync(fd);
    return 0;
  } catch (error) {
    return errnoOf(error);
  }
}

for (let slot = ring.take(); slot >= 0; slot = ring.take()) {
  ring.read(slot, request);
  const began = performance.now();
  const status = serve();
  if (ring.finish(slot, status, (performance.now() - began) * 1000)) parentPort?.postMessage(0);
}
