/**
 * The xenstore nodes that the toolstack (libxl) makes for one split device: names, values and permissions. They are
 * made twice with different numbers: once for the guest's own constant view, and once on every host.
 * Source: `xenstore-ls -fp` on a Xen 4.17 host with libxl; tools/libs/light/libxl_device.c
 * (libxl__device_generic_add), libxl_disk.c.
 */
import type { TreeNode } from './domain-tree.js';

export interface DeviceTreeInput {
  /** "vbd", "vif". */
  readonly kind: string;
  readonly devid: number;
  readonly domid: number;
  /** Nodes of the front end's directory after `backend`, `backend-id` and `state`, in order. */
  readonly front: Readonly<Record<string, string | number>>;
  /** Nodes of the back end's directory, in order. They stand between the nodes that libxl puts first and last. */
  readonly back: Readonly<Record<string, string | number>>;
}

/** All nodes of a device, parents before children. The directories of its kind are included. */
export function deviceTree(d: DeviceTreeInput): TreeNode[] {
  const devices = `/local/domain/${d.domid}/device/${d.kind}`;
  const front = `${devices}/${d.devid}`;
  const backends = `/local/domain/0/backend/${d.kind}`;
  const back = `${backends}/${d.domid}/${d.devid}`;
  const host = ['n0', `r${d.domid}`];
  const shared = [`n${d.domid}`, 'r0'];
  const nodes: TreeNode[] = [];
  const add = (path: string, value: string | number, perms: readonly string[]) => {
    nodes.push({ path, value: String(value), perms });
  };
  add(backends, '', ['n0']);
  add(`${backends}/${d.domid}`, '', ['n0']);
  add(back, '', host);
  add(`${back}/frontend`, front, host);
  add(`${back}/frontend-id`, d.domid, host);
  add(`${back}/online`, 1, host);
  add(`${back}/state`, 1, host);
  for (const [name, value] of Object.entries(d.back)) add(`${back}/${name}`, value, host);
  // The front end's nodes come last, because its driver expects all others to exist.
  add(devices, '', host);
  add(front, '', shared);
  add(`${front}/backend`, back, shared);
  add(`${front}/backend-id`, 0, shared);
  add(`${front}/state`, 1, shared);
  for (const [name, value] of Object.entries(d.front)) add(`${front}/${name}`, value, shared);
  return nodes;
}

/** libxl's own record of a device, which its tools read on the host. The guest has no access to it. */
export function libxlDeviceTree(d: DeviceTreeInput): TreeNode[] {
  const kind = `/libxl/${d.domid}/device/${d.kind}`;
  const home = `${kind}/${d.devid}`;
  const entries: [string, string | number][] = [
    [kind, ''],
    [home, ''],
    [`${home}/frontend`, `/local/domain/${d.domid}/device/${d.kind}/${d.devid}`],
    [`${home}/backend`, `/local/domain/0/backend/${d.kind}/${d.domid}/${d.devid}`],
    [`${home}/frontend-id`, d.domid],
    [`${home}/online`, 1],
    [`${home}/state`, 1],
    ...Object.entries(d.back).map(([name, value]): [string, string | number] => [`${home}/${name}`, value]),
  ];
  return entries.map(([path, value]) => ({ path, value: String(value), perms: ['n0'] }));
}
