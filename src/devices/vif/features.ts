/** What a front end can take and where its queues are. Its nodes are read at the moment of connecting. */
import { type FrontEnd, XenbusError } from '../xenbus.js';
import type { QueueEnds } from './queue.js';

/** How many queues are offered. A Linux front end opens as many as it has vCPUs. */
export const MAX_QUEUES = 8;
const MAX_PORT = 4095;
const U32 = 0xffff_ffff;

export interface VifFeatures {
  /** Packets may occupy more than one slot. */
  readonly sg: boolean;
  readonly gso4: boolean;
  readonly gso6: boolean;
  /** Packets may arrive with a blank TCP or UDP checksum. */
  readonly csum4: boolean;
  readonly csum6: boolean;
}

export function readFeatures(front: FrontEnd): VifFeatures {
  if (!front.flag('request-rx-copy'))
    throw new XenbusError('request-rx-copy is not set: packets are only copied');
  const sg = front.flag('feature-sg');
  return {
    sg,
    gso4: sg && front.flag('feature-gso-tcpv4'),
    gso6: sg && front.flag('feature-gso-tcpv6'),
    csum4: !front.flag('feature-no-csum-offload'),
    csum6: front.flag('feature-ipv6-csum-offload'),
  };
}

export function readQueues(front: FrontEnd): QueueEnds[] {
  const count = front.optional('multi-queue-num-queues', U32) ?? 1;
  if (count < 1 || count > MAX_QUEUES)
    throw new XenbusError(`multi-queue-num-queues is ${count}, offered are ${MAX_QUEUES}`);
  const ends = Array.from({ length: count }, (_, i) => readQueue(front, count === 1 ? '' : `queue-${i}/`));
  const refs = ends.flatMap((e) => [e.txRef, e.rxRef]);
  const ports = ends.flatMap((e) => (e.txPort === e.rxPort ? [e.txPort] : [e.txPort, e.rxPort]));
  if (new Set(refs).size !== refs.length || new Set(ports).size !== ports.length)
    throw new XenbusError('two rings have the same grant or event channel');
  return ends;
}

function readQueue(front: FrontEnd, prefix: string): QueueEnds {
  const txRef = front.number(`${prefix}tx-ring-ref`, U32);
  const rxRef = front.number(`${prefix}rx-ring-ref`, U32);
  const both = front.optional(`${prefix}event-channel`, MAX_PORT);
  if (both !== undefined) return { txRef, rxRef, txPort: both, rxPort: both };
  const txPort = front.number(`${prefix}event-channel-tx`, MAX_PORT);
  const rxPort = front.number(`${prefix}event-channel-rx`, MAX_PORT);
  return { txRef, rxRef, txPort, rxPort };
}

/** The agreed features, by the names that the front end uses. */
export function featureNames(f: VifFeatures | undefined): string {
  if (f === undefined) return 'not connected';
  const names: [boolean, string][] = [
    [f.sg, 'sg'],
    [f.gso4, 'gso-tcpv4'],
    [f.gso6, 'gso-tcpv6'],
    [f.csum4, 'csum'],
    [f.csum6, 'ipv6-csum'],
  ];
  return ['rx-copy', ...names.filter(([has]) => has).map(([, name]) => name)].join(' ');
}
