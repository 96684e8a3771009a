/** The rows of a vif in the ledger: what the guest sees, and what its present host provides. */
import type { NetLink } from '../../net/link.js';
import type { DevicePoint } from '../links.js';
import { featureNames, type VifFeatures } from './features.js';
import type { QueueEnds } from './queue.js';

const OWN = '(none: the guest only ever sees its own)';

export function vifPoints(
  devid: number,
  mac: string,
  ends: readonly QueueEnds[],
  features: VifFeatures | undefined,
  link: NetLink | undefined,
): DevicePoint[] {
  const list = (of: (q: QueueEnds) => string): string => ends.map(of).join(', ') || 'not connected';
  const ports = (q: QueueEnds): string => (q.txPort === q.rxPort ? `${q.txPort}` : `${q.txPort} ${q.rxPort}`);
  const state = link?.up === true ? 'up' : 'down';
  const rows: [name: string, inner: string, outer: string][] = [
    ['backend', `/local/domain/0/backend/vif/1/${devid}, backend-id 0`, link?.name ?? 'no link'],
    ['handle', String(devid), OWN],
    ['mac', mac, OWN],
    ['tx-ring-ref', list((q) => String(q.txRef)), OWN],
    ['rx-ring-ref', list((q) => String(q.rxRef)), OWN],
    ['event channels', list(ports), OWN],
    ['features', featureNames(features), link?.offloads === true ? 'offloads' : 'plain frames'],
    ['state', ends.length > 0 ? '4 (connected)' : 'not connected', state],
    ['link', 'always there', link === undefined ? 'none' : `${link.name}, ${state}`],
  ];
  return rows.map(([name, inner, outer]) => ({ name, inner: () => inner, outer: () => outer }));
}
