/** The verbs for a running guest's networks: network-attach, network-detach, network-list. */
import { parseVifSettings } from '../../devices/vif/settings.js';
import { parseVif } from '../../guest/vif-spec.js';
import { vifConfig } from '../../guest-process/device-requests.js';
import type { NetworkRow } from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import type { GuestConfig } from '../../protocol/guest-config.js';
import type { Domains } from '../domains/domains.js';
import type { HostedDomain } from '../domains/hosted-domain.js';

const vifs = (domain: HostedDomain): GuestConfig['devices'] =>
  (domain.state.config?.devices ?? []).filter((d) => d.kind === 'vif');

/** More warnings than anybody reads, and longer ones. */
const MAX_WARNINGS = 100;
const MAX_WARNING = 1000;

/** Attaches a vif. `spec` is in xl's syntax. Resolves with the vif's number, and what of `spec` has no effect. */
export async function networkAttach(
  domains: Domains,
  domain: HostedDomain,
  spec: string,
): Promise<{ devid: number; mac: string; warnings?: readonly string[] }> {
  const warnings: string[] = [];
  const vif = parseVif(
    spec,
    (message) => {
      throw new Failure('usage', message);
    },
    (message) => void warnings.push(message.slice(0, MAX_WARNING)),
  );
  const taken = new Set(vifs(domain).map((d) => d.devid));
  let devid = vif.devid ?? 0;
  while (vif.devid === undefined && taken.has(devid)) devid++;
  if (taken.has(devid)) throw new Failure('bad-state', `the guest has a vif ${devid}`);
  const device = vifConfig(vif, devid, domain.state.uuid);
  const { mac } = parseVifSettings(device.spec);
  if (vifs(domain).some((d) => parseVifSettings(d.spec).mac === mac))
    throw new Failure('bad-state', `the guest has a vif with the address ${mac}`);
  await domains.devices.plug(domain, device);
  if (warnings.length === 0) return { devid, mac };
  return { devid, mac, warnings: warnings.slice(0, MAX_WARNINGS) };
}

/** Detaches the vif with this number or MAC address. */
export async function networkDetach(
  domains: Domains,
  domain: HostedDomain,
  which: string,
  force: boolean,
): Promise<{ devid: number }> {
  const found = vifs(domain).find(
    (d) => String(d.devid) === which || parseVifSettings(d.spec).mac === which.toLowerCase(),
  );
  if (found === undefined) throw new Failure('usage', `the guest has no vif ${which}`);
  await domains.devices.unplug(domain, found, force);
  return { devid: found.devid };
}

export async function networkList(domain: HostedDomain): Promise<NetworkRow[]> {
  const { domid } = domain.state;
  const rows = await domain.ask('devices', {});
  return rows
    .filter((d) => d.kind === 'vif')
    .map(({ devid, spec, front, link }) => {
      const { mac, bridge } = parseVifSettings(spec);
      const number = (...names: string[]): number =>
        Number(names.map((name) => front[name]).find((value) => value !== undefined) ?? -1);
      return {
        devid,
        mac,
        bridge,
        state: number('state'),
        evtchn: number(
          'event-channel',
          'event-channel-tx',
          'queue-0/event-channel-tx',
          'queue-0/event-channel',
        ),
        txRingRef: number('tx-ring-ref', 'queue-0/tx-ring-ref'),
        rxRingRef: number('rx-ring-ref', 'queue-0/rx-ring-ref'),
        backend: `/local/domain/0/backend/vif/${domid}/${devid}`,
        link,
      };
    });
}
