/** In the guest's process: disks that travel with the guest, while they are being copied. */
import { DiskSource } from '../devices/vbd/disk-source.js';
import { Vbd } from '../devices/vbd/vbd.js';
import type { Devices } from '../helper/devices.js';
import type { TravellingDisk } from '../migration/disk-sender.js';
import { Failure } from '../protocol/failure.js';

export class DiskSources {
  readonly disks: readonly TravellingDisk[];

  private constructor(private readonly sources: readonly { devid: number; source: DiskSource }[]) {
    this.disks = sources.map(({ devid, source }) => ({
      devid,
      bytes: source.bytes,
      get pending(): number {
        return source.pending;
      },
      sweep: (block) => source.sweep(block),
    }));
  }

  /**
   * Opens the disks with these numbers a second time, for reading; from here on the guest's writes to them are
   * recorded.
   */
  static async open(
    devices: Devices,
    devids: readonly number[],
    log: (line: string) => void,
  ): Promise<DiskSources> {
    const sources: { devid: number; source: DiskSource }[] = [];
    try {
      for (const devid of devids)
        sources.push({ devid, source: await DiskSource.open(diskOf(devices, devid), log) });
    } catch (error) {
      await closeAll(sources);
      throw error;
    }
    return new DiskSources(sources);
  }

  close(): Promise<void> {
    return closeAll(this.sources);
  }
}

/** The back end of a disk. Throws if there is none. */
export function diskOf(devices: Devices, devid: number): Vbd {
  const driver = devices.find('vbd', devid)?.driver;
  if (!(driver instanceof Vbd)) throw new Failure('bad-state', `the guest has no disk ${devid}`);
  return driver;
}

async function closeAll(sources: readonly { readonly source: DiskSource }[]): Promise<void> {
  await Promise.all(sources.map(({ source }) => source.close()));
}
