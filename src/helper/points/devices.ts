/** Disks and networks. Each device has its own points (src/devices); these descriptions apply to all of them. */
import type { PointDescription } from '../point.js';

export const backendTree: PointDescription = {
  name: 'vbd, vif: xenstore subtrees',
  rows: 'S5',
  seen: 'backend path, backend-id, handle, mac, ring-ref, event-channel, features, state, sectors',
  held: "nodes of the guest's own store, made once; each host has its own subtree for the device",
  proof: [
    'src/helper/devices.test.ts: keeps its devices over a move, with the links of each host',
    'test/disk/hosts.test.ts: reads a file before and after moves; the disk is locked by the host that has the guest',
    'test/net/netfront.test.ts: continues to download on one connection, and to ping, while it moves from host to host',
  ],
};
export const deviceRings: PointDescription = {
  name: 'vbd, vif: rings and requests in flight',
  rows: 'B',
  seen: 'rings, private indices, grants in use, requests taken and not answered',
  held: 'rings are guest memory; indices and requests in flight are saved with the device and issued again',
  proof: [
    'src/helper/devices.test.ts: keeps its devices over a move, with the links of each host',
    'src/devices/vbd/vbd.test.ts: are each answered once and with the right data, over any number of moves',
    'src/devices/vif/vif.test.ts: at any point of a conversation loses no packet, doubles none and keeps their order',
  ],
};
