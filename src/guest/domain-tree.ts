/**
 * The xenstore nodes that the toolstack (libxl) makes for one PV domain: names, values and permissions. They are made
 * twice with different numbers: once for the guest's own constant view, and once on every host.
 * Source: `xenstore-ls -fp` on a Xen 4.17 host with libxl; docs/misc/xenstore-paths.pandoc of Xen.
 */

/**
 * One node: its absolute path, its value, and its permissions as xenstore-ls prints them ("n0", "r9"), the owner's
 * first.
 */
export interface TreeNode {
  readonly path: string;
  readonly value: string;
  readonly perms: readonly string[];
}

/** What the nodes of a domain depend on. Sizes are in KiB; ring references are machine frame numbers. */
export interface DomainTreeInput {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** The maximum number of vCPUs, and how many of them, beginning with the first, are to be online. */
  readonly vcpus: number;
  readonly onlineVcpus: number;
  readonly staticMaxKib: number;
  readonly targetKib: number;
  readonly storePort: number;
  readonly storeRingRef: number;
  readonly consolePort: number;
  readonly consoleRingRef: number;
  /** Where the console can be reached on this host, or "" if it has no terminal device. */
  readonly consoleTty: string;
  readonly kernel: string;
  readonly ramdisk: string;
  readonly cmdline: string;
  /** Seconds since 1970 with two decimals, in libxl's format. */
  readonly startTime: string;
}

/** Nodes that a guest may write in its own subtree. They are empty at first and owned by the guest. */
const OWNED_BY_GUEST = ['data', 'drivers', 'feature', 'attr', 'error'];
const CONTROL_OWNED_BY_GUEST = ['shutdown', 'feature-poweroff', 'feature-reboot', 'feature-suspend', 'sysrq'];

/** All nodes of a domain, parents before children. The nodes /local, /vm and /libxl themselves are not included. */
export function domainTree(d: DomainTreeInput): TreeNode[] {
  const home = `/local/domain/${d.domid}`;
  const vm = `/vm/${d.uuid}`;
  const backend = `/local/domain/0/backend/console/${d.domid}`;
  const host = ['n0', `r${d.domid}`];
  const guest = [`n${d.domid}`];
  const shared = [`n${d.domid}`, 'r0'];
  const nodes: TreeNode[] = [];
  const add = (path: string, value: string | number, perms: readonly string[]) => {
    nodes.push({ path, value: String(value), perms });
  };

  add(vm, '', host);
  add(`${vm}/name`, d.name, host);
  add(`${vm}/uuid`, d.uuid, host);
  add(`${vm}/image`, '', host);
  add(`${vm}/image/ostype`, 'linux', host);
  add(`${vm}/image/kernel`, d.kernel, host);
  if (d.ramdisk !== '') add(`${vm}/image/ramdisk`, d.ramdisk, host);
  add(`${vm}/image/cmdline`, d.cmdline, host);
  add(`${vm}/start_time`, d.startTime, host);

  add(home, '', host);
  add(`${home}/vm`, vm, host);
  add(`${home}/name`, d.name, host);
  add(`${home}/cpu`, '', host);
  for (let i = 0; i < d.vcpus; i++) {
    add(`${home}/cpu/${i}`, '', host);
    add(`${home}/cpu/${i}/availability`, i < d.onlineVcpus ? 'online' : 'offline', host);
  }
  add(`${home}/memory`, '', host);
  add(`${home}/memory/static-max`, d.staticMaxKib, host);
  add(`${home}/memory/target`, d.targetKib, host);
  add(`${home}/memory/videoram`, 0, host);
  add(`${home}/device`, '', host);
  add(`${home}/device/suspend`, '', host);
  add(`${home}/device/suspend/event-channel`, '', guest);
  add(`${home}/control`, '', host);
  for (const name of CONTROL_OWNED_BY_GUEST) add(`${home}/control/${name}`, '', guest);
  add(`${home}/control/platform-feature-multiprocessor-suspend`, 1, host);
  add(`${home}/control/platform-feature-xs_reset_watches`, 1, host);
  for (const name of OWNED_BY_GUEST) add(`${home}/${name}`, '', guest);
  add(`${home}/domid`, d.domid, host);
  add(`${home}/store`, '', host);
  add(`${home}/store/port`, d.storePort, host);
  add(`${home}/store/ring-ref`, d.storeRingRef, host);
  add(`${home}/console`, '', host);
  add(`${home}/console/backend`, `${backend}/0`, host);
  add(`${home}/console/backend-id`, 0, shared);
  add(`${home}/console/limit`, 1048576, host);
  add(`${home}/console/type`, 'xenconsoled', host);
  add(`${home}/console/output`, 'pty', host);
  add(`${home}/console/tty`, d.consoleTty, host);
  add(`${home}/console/port`, d.consolePort, host);
  add(`${home}/console/ring-ref`, d.consoleRingRef, host);

  add(backend, '', ['n0']);
  add(`${backend}/0`, '', host);
  add(`${backend}/0/frontend`, `${home}/console`, host);
  add(`${backend}/0/frontend-id`, d.domid, host);
  add(`${backend}/0/online`, 1, host);
  add(`${backend}/0/state`, 1, host);
  add(`${backend}/0/protocol`, 'vt100', host);
  return nodes;
}

/** The nodes that only dom0 sees: libxl's own records about the domain. */
export function libxlTree(domid: number): TreeNode[] {
  const home = `/libxl/${domid}`;
  const console = `${home}/device/console`;
  const entries: [string, string][] = [
    [home, ''],
    [`${home}/device`, ''],
    [console, ''],
    [`${console}/0`, ''],
    [`${console}/0/frontend`, `/local/domain/${domid}/console`],
    [`${console}/0/backend`, `/local/domain/0/backend/console/${domid}/0`],
    [`${console}/0/frontend-id`, String(domid)],
    [`${console}/0/online`, '1'],
    [`${console}/0/state`, '1'],
    [`${console}/0/protocol`, 'vt100'],
    [`${home}/type`, 'pv'],
    [`${home}/dm-version`, 'qemu_xen'],
  ];
  return entries.map(([path, value]) => ({ path, value, perms: ['n0'] }));
}

/** The nodes of a host on which no guest runs. */
export function hostTree(): TreeNode[] {
  const dom0 = '/local/domain/0';
  const entries: [string, string][] = [
    ['/tool', ''],
    ['/tool/xenstored', ''],
    ['/local', ''],
    ['/local/domain', ''],
    [dom0, ''],
    [`${dom0}/control`, ''],
    [`${dom0}/control/feature-poweroff`, '1'],
    [`${dom0}/control/feature-reboot`, '1'],
    [`${dom0}/domid`, '0'],
    [`${dom0}/name`, 'Domain-0'],
    [`${dom0}/backend`, ''],
    [`${dom0}/backend/console`, ''],
    [`${dom0}/backend/vbd`, ''],
    [`${dom0}/backend/vif`, ''],
    ['/local/pool', ''],
    ['/local/pool/0', ''],
    ['/local/pool/0/name', 'Pool-0'],
    ['/vm', ''],
    ['/libxl', ''],
  ];
  return entries.map(([path, value]) => ({ path, value, perms: ['n0'] }));
}
