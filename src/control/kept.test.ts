/**
 * The daemon's memory for a guest is bounded by what the guest has, however often the guest makes and removes nodes.
 */
import { expect, it } from 'vitest';
import { RelayedStore } from '../guest-process/relayed-store.js';
import type { HostNode } from '../host/host.js';
import { HostXenstore } from '../host/standalone/toolstack-store.js';
import { systemClock } from '../os/clock.js';
import { MAX_NODES_AT_ONCE } from '../protocol/limits.js';
import { Seldom } from './seldom.js';

/** The number of entries in all maps, sets and arrays that are fields of an object. */
function entries(of: object): number {
  let sum = 0;
  for (const value of Object.values(of)) {
    if (value instanceof Map || value instanceof Set) sum += value.size;
    else if (Array.isArray(value)) sum += value.length;
  }
  return sum;
}
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

function host(): { store: HostXenstore; heard: HostNode[]; relay: ReturnType<HostXenstore['relay']> } {
  const store = new HostXenstore();
  const dom0 = store.server.local(0);
  dom0.write('/local/domain/5/data', '');
  dom0.setPermissions('/local/domain/5/data', ['n5']);
  const heard: HostNode[] = [];
  return { store, heard, relay: store.relay(5, (node) => heard.push(node)) };
}

it('the daemon remembers nothing of nodes that are gone', () => {
  const { relay, heard } = host();
  for (let i = 0; i < 3000; i++) {
    expect(relay.write([{ path: `data/${i}`, value: 'x' }])).toEqual([]);
    relay.write([{ path: `data/${i}`, value: null }]);
  }
  expect(entries(relay)).toBe(0);
  // The relay does not report the domain's own writes to it.
  expect(heard).toEqual([]);
});

it('the daemon holds a guest to its quota of nodes', () => {
  const { relay } = host();
  const nodes = Array.from({ length: 3000 }, (_, i) => ({ path: `data/${i}`, value: 'x' }));
  expect(relay.write(nodes).length).toBeGreaterThan(1900);
});

it('a guest with many devices may have the nodes of all of them, and no more when they are gone', () => {
  const { store, relay } = host();
  const nodes = Array.from({ length: 100 }, (_, devid) =>
    Array.from({ length: 20 }, (_, i) => ({ path: `device/vif/${devid}/n${i}`, value: 'x' })),
  ).flat();
  for (let devid = 0; devid < 100; devid++) store.addDevice(5, { kind: 'vif', devid, front: {}, back: {} });
  expect(relay.write(nodes)).toEqual([]);
  for (let devid = 0; devid < 100; devid++) store.removeDevice(5, 'vif', devid);
  expect(
    relay.write(Array.from({ length: 3000 }, (_, i) => ({ path: `data/${i}`, value: 'x' }))).length,
  ).toBeGreaterThan(1900);
});

it("a guest's process keeps the values that are there, sends them in parts, and waits for a daemon that does not read", async () => {
  const told: HostNode[][] = [];
  let unsent = 0;
  const store = new RelayedStore(() => ({ unsent, send: (nodes) => told.push([...nodes]) }));
  for (let i = 0; i < 2000; i++) {
    store.write([
      { path: 'dir', value: '' },
      { path: `dir/${i}`, value: 'x' },
    ]);
    // The relay reports the removal of a whole subtree once.
    store.write([{ path: 'dir', value: null }]);
  }
  expect(entries(store)).toBe(0);
  for (let i = 0; i < 200; i++) store.write([{ path: `n${i}`, value: 'x' }]);
  unsent = 2 << 20;
  await turn();
  expect(told).toEqual([]);
  unsent = 0;
  await expect.poll(() => told.flat().length).toBe(200);
  for (const nodes of told) expect(nodes.length).toBeLessThanOrEqual(MAX_NODES_AT_ONCE);
  store.write([{ path: 'n7', value: null }]);
  await turn();
  expect(told.at(-1)).toEqual([{ path: 'n7', value: null }]);
  expect(entries(store)).toBe(2 * 199);
});

it('a message that is limited in its rate passes a few times at once, and then once a second', () => {
  const seldom = new Seldom(systemClock, 3, 60);
  const now = systemClock.monotonicMs();
  expect(Array.from({ length: 10 }, () => seldom.allows(now)).filter(Boolean)).toHaveLength(3);
  expect(seldom.allows(now + 1100)).toBe(true);
  expect(seldom.allows(now + 1200)).toBe(false);
});
