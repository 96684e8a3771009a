/** The verbs for a running guest's disks: block-attach, block-detach, block-list. */
import { parseDisk, sharedImage, sharingFault, vdevNumber } from '../../guest/disk-spec.js';
import { vbdConfig } from '../../helper/kinds/vbd.js';
import type { DiskRow } from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import { type DiskSpec, readDiskSpec } from '../../protocol/guest-config.js';
import type { Domains } from '../domains/domains.js';
import type { HostedDomain } from '../domains/hosted-domain.js';

const disks = (domain: HostedDomain): DiskSpec[] =>
  (domain.state.config?.devices ?? []).filter((d) => d.kind === 'vbd').map((d) => readDiskSpec(d.spec));

/** Attaches a disk. `spec` is in xl's syntax. */
export async function blockAttach(
  domains: Domains,
  domain: HostedDomain,
  spec: string,
): Promise<{ devid: number; vdev: string }> {
  const disk = parseDisk(spec, (message) => {
    throw new Failure('usage', message);
  });
  if (disks(domain).some((d) => d.virtualDevice === disk.virtualDevice))
    throw new Failure(
      'bad-state',
      `the guest has a disk ${disk.vdev} (one that it was asked to let go of is its own until it has)`,
    );
  const sharing = sharedImage(disk, disks(domain));
  if (sharing !== undefined) throw new Failure('bad-state', `disk ${disk.vdev}: ${sharingFault(sharing)}`);
  await domains.devices.plug(domain, vbdConfig(disk));
  return { devid: disk.virtualDevice, vdev: disk.vdev };
}

/** Detaches the disk with this name or number. */
export async function blockDetach(
  domains: Domains,
  domain: HostedDomain,
  which: string,
  force: boolean,
): Promise<{ devid: number }> {
  const devid = vdevNumber(which);
  const disk = disks(domain).find((d) => d.virtualDevice === devid);
  if (disk === undefined) throw new Failure('usage', `the guest has no disk ${which}`);
  await domains.devices.unplug(domain, vbdConfig(disk), force);
  return { devid: disk.virtualDevice };
}

export async function blockList(domain: HostedDomain): Promise<DiskRow[]> {
  const { domid } = domain.state;
  const rows = await domain.ask('devices', {});
  return rows
    .filter((d) => d.kind === 'vbd')
    .map(({ devid, spec, front, link }) => {
      const { vdev, readOnly } = readDiskSpec(spec);
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
