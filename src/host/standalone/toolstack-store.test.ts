import { describe, expect, it } from 'vitest';
import type { HostNode } from '../host.js';
import { HostXenstore } from './toolstack-store.js';

const DOMAIN = {
  domid: 4,
  name: 'g',
  uuid: '00000000-0000-4000-8000-000000000000',
  vcpus: 1,
  onlineVcpus: 1,
  staticMaxKib: 131072,
  targetKib: 131072,
  storePort: 1,
  storeRingRef: 1,
  consolePort: 2,
  consoleRingRef: 2,
  consoleTty: '',
  kernel: '/k',
  ramdisk: '',
  cmdline: '',
  startTime: '0.00',
};

describe("a domain's home in the host's xenstore", () => {
  it('passes on what a tool writes there, but not what the toolstack wrote when the domain came', () => {
    const store = new HostXenstore();
    store.addDomain(DOMAIN);
    const heard: HostNode[] = [];
    store.relay(4, (node) => heard.push(node));
    expect(heard).toEqual([]);
    const tool = store.server.local(0);
    tool.write('/local/domain/4/memory/target', '65536');
    expect(heard).toEqual([{ path: 'memory/target', value: '65536' }]);
    // The domain comes again, with a new daemon or on another host. The store has the value of its
    // configuration.
    store.addDomain(DOMAIN);
    heard.length = 0;
    store.relay(4, (node) => heard.push(node));
    expect(heard).toEqual([]);
  });
});
