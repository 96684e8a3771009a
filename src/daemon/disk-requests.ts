/** The verbs on a running guest's disks: block-attach, block-detach, block-list. */
import { type DiskSpec, parseDisk, vdevNumber } from '../guest/disk-spec.js';
import { vbdConfig } from '../helper/kinds/vbd.js';
import type { Domain } from './domain.js';
import { Failure } from './failure.js';
import type { GuestConfig } from './guest-runner.js';

/** How long a guest is given to let go of a disk: it may have to write much back. */
const DETACH_TIMEOUT_S = 30;

/** One line of `block-list`. */
export interface DiskRow {
  readonly vdev: string;
  readonly devid: number;
  /** The guest's XenbusState. */
  readonly state: number;
  /** Event channel and ring reference of its first queue; -1 where it is not connected. */
  readonly evtchn: number;
  readonly ringRef: number;
  readonly readOnly: boolean;
  readonly backend: string;
  /** What this host gave. */
  readonly link: string;
}

const disks = (domain: Domain): DiskSpec[] =>
  (domain.state.config?.devices ?? [])
    .filter((d) => d.kind === 'vbd')
    .map((d) => JSON.parse(d.spec) as DiskSpec);

/** Plugs in a disk, in xl's syntax. `give`: lets the guest's process have it. */
export async function blockAttach(
  domain: Domain,
  spec: string,
  give: (device: GuestConfig['devices'][number]) => void,
): Promise<{ devid: number; vdev: string }> {
  const disk = parseDisk(spec, (message) => {
    throw new Failure('usage', message);
  });
  if (disks(domain).some((d) => d.virtualDevice === disk.virtualDevice))
    throw new Failure('bad-state', `the guest has a disk ${disk.vdev}`);
  const device = vbdConfig(disk);
  give(device);
  domain.keepConfig(await domain.ask('plug', { device }));
  return { devid: disk.virtualDevice, vdev: disk.vdev };
}

/** Unplugs the disk with this name or number. */
export async function blockDetach(domain: Domain, which: string, force: boolean): Promise<{ devid: number }> {
  const devid = vdevNumber(which);
  if (devid === undefined || !disks(domain).some((d) => d.virtualDevice === devid))
    throw new Failure('usage', `the guest has no disk ${which}`);
  domain.keepConfig(await domain.ask('unplug', { kind: 'vbd', devid, force, timeoutS: DETACH_TIMEOUT_S }));
  return { devid };
}

export async function blockList(domain: Domain): Promise<DiskRow[]> {
  const { domid } = domain.state;
  const rows = await domain.ask('devices', {});
  return rows
    .filter((d) => d.kind === 'vbd')
    .map(({ devid, spec, front, link }) => {
      const { vdev, readOnly } = JSON.parse(spec) as DiskSpec;
      const number = (...names: string[]): number =>
        Number(names.map((name) => front[name]).find((value) => value !== undefined) ?? -1);
      return {
        vdev,
        devid,
        state: number('state'),
        evtchn: number('event-channel', 'queue-0/event-channel'),
        ringRef: number('ring-ref', 'ring-ref0', 'queue-0/ring-ref', 'queue-0/ring-ref0'),
        readOnly,
        backend: `/local/domain/0/backend/vbd/${domid}/${devid}`,
        link,
      };
    });
}
