/**
 * The saved state of a connected vif: its rings' private indices, what was agreed, and the frames that wait for the
 * guest.
 */
import { bool, bytes, int, list, struct, u8, u16, u32 } from '../../records/fields.js';
import { recordType } from '../../records/record.js';

const frame = struct({
  bytes: [bytes, 'the frame'],
  flags: [u8, 'NEEDS_CSUM, DATA_VALID'],
  csumStart: [u16, 'as in virtio-net'],
  csumOffset: [u16, 'as in virtio-net'],
  gsoType: [u8, 'as in virtio-net'],
  gsoSize: [u16, 'payload of a segment, bytes'],
});

const queueFields = {
  txRef: [u32, 'grant of the transmit ring'],
  rxRef: [u32, 'grant of the receive ring'],
  txPort: [u32, 'event channel'],
  rxPort: [u32, 'event channel; the same as txPort if both rings share one'],
  txIndex: [u32, 'requests taken and answered'],
  rxIndex: [u32, 'requests taken and answered'],
  broken: [bool, 'the front end broke a ring'],
  backlog: [list(frame), 'frames that arrived and wait for room in the ring'],
} as const;
const queue = struct({
  ...queueFields,
  txOwed: [bool, 'the guest has signalled packets that could not be taken yet'],
  rxOwed: [bool, 'frames came that the guest has not been notified of'],
});
const queue1 = struct(queueFields);

const agreed = {
  sg: [bool, 'feature-sg'],
  gso4: [bool, 'feature-gso-tcpv4'],
  gso6: [bool, 'feature-gso-tcpv6'],
  csum4: [bool, 'not feature-no-csum-offload'],
  csum6: [bool, 'feature-ipv6-csum-offload'],
  multicastControl: [bool, 'request-multicast-control'],
  groups: [list(int), 'addresses of the multicast groups that the guest asked for'],
  addresses: [list(bytes), "the guest's IP addresses as seen in its ARP and Neighbour Discovery"],
} as const;
const vif1 = struct({ ...agreed, queues: [list(queue1), 'in order'] });

export const vifRecord = recordType(
  'VIF ',
  2,
  'a connected vif',
  { ...agreed, queues: [list(queue), 'in order'] },
  [
    {
      version: 1,
      body: vif1,
      upgrade: (old: ReturnType<typeof vif1.read>) => ({
        ...old,
        queues: old.queues.map((one) => ({ ...one, txOwed: true, rxOwed: true })),
      }),
    },
  ],
);
