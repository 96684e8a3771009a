/** Receives the disks that move with a guest, and writes them into images that the daemon has created. */
import { truncate } from 'node:fs/promises';
import { ACCESS_BYTES, DiskAccess } from '../../devices/vbd/disk-access.js';
import type { FilledImages, ReceivedImage } from '../images.js';
import { openImage } from './open-disk.js';

const SECTOR_BYTES = 512;

export class ReceivedDisks implements FilledImages {
  private readonly disks = new Map<number, DiskAccess>();

  constructor(
    private readonly images: readonly ReceivedImage[],
    private readonly log: (line: string) => void,
  ) {}

  async begin(devid: number, bytes: number): Promise<void> {
    const image = this.images.find((one) => one.devid === devid);
    if (image?.bytes !== bytes) throw new Error(`disk ${devid} of ${bytes} bytes was not announced`);
    const { path, format } = image;
    const link = await openImage({ path, format, readOnly: false, discard: false });
    this.disks.set(devid, new DiskAccess(link, 1, this.log));
    if (link.geometry.sectors * 512 < bytes) throw new Error(`${path} is smaller than ${bytes} bytes`);
  }

  async write(devid: number, at: number, bytes: number, data: Uint8Array | undefined): Promise<void> {
    const disk = this.disks.get(devid);
    if (disk === undefined || bytes > ACCESS_BYTES)
      throw new Error(`disk ${devid} cannot take a block of ${bytes} bytes`);
    const buffer = disk.buffer(0, bytes);
    if (data === undefined) buffer.fill(0);
    else buffer.set(data);
    try {
      await disk.write(0, at, bytes);
    } catch (error) {
      throw new Error(`the disk that comes cannot be kept here: ${(error as Error).message}`);
    }
  }

  async flush(): Promise<void> {
    for (const [devid, disk] of this.disks) await this.endAsThere(devid, disk);
    await Promise.all([...this.disks.values()].map((disk) => disk.flush()));
  }

  /**
   * If the source's file ended within its last sector, this one is cut to the same size, unless the guest has written
   * beyond that end since.
   */
  private async endAsThere(devid: number, disk: DiskAccess): Promise<void> {
    const image = this.images.find((one) => one.devid === devid);
    if (image?.fileBytes === undefined) return;
    const { path, bytes, fileBytes } = image;
    await disk.read(0, bytes - SECTOR_BYTES, SECTOR_BYTES);
    const behind = disk.buffer(0, SECTOR_BYTES).subarray(SECTOR_BYTES - (bytes - fileBytes));
    if (behind.every((byte) => byte === 0)) await truncate(path, fileBytes);
  }

  /** Closes the images. */
  async close(): Promise<void> {
    const all = [...this.disks.values()];
    this.disks.clear();
    await Promise.all(all.map((disk) => disk.close()));
  }
}
