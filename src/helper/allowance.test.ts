import { expect, test } from 'vitest';
import { TestGuest, TestHost } from '../../test/support/guest-on-host.js';
import { allowanceOf } from './allowance.js';

const vifs = (count: number) =>
  Array.from({ length: count }, (_, devid) => ({ kind: 'vif', devid, spec: '{}' }));

test('a guest with usual devices is allowed what Xen and xenstored allow by default', () => {
  expect(allowanceOf({ vcpus: 1 })).toEqual({ grantFrames: 64, quotas: {} });
  expect(allowanceOf({ vcpus: 4, devices: vifs(8) })).toEqual({ grantFrames: 64, quotas: {} });
});

test('a hundred networks have the grants, nodes and watches that their front ends take', () => {
  const { grantFrames, quotas } = allowanceOf({ vcpus: 1, devices: vifs(100) });
  expect(grantFrames).toBeGreaterThanOrEqual((100 * 514) / 512);
  expect(quotas.nodes).toBeGreaterThan(3000);
  expect(quotas.watches).toBeGreaterThan(200);
  expect(allowanceOf({ vcpus: 8, devices: vifs(256) }).grantFrames).toBe(1024);
});

test('what the configuration says counts', () => {
  expect(
    allowanceOf({ vcpus: 1, devices: vifs(100), grantFrames: 16, xenstoreQuotas: { nodes: 200 } }),
  ).toMatchObject({ grantFrames: 16, quotas: { nodes: 200 } });
});

test('a guest is allowed the same on every host', async () => {
  const [a, b] = [new TestHost('A', 5), new TestHost('B', 6)];
  const here = await TestGuest.on(a, { grantFrames: 128, xenstoreQuotas: { nodes: 3000 } });
  here.guest.start();
  await here.guest.pause();
  const { guest } = await here.arriveOn(b);
  expect(guest.container.grantFrames).toBe(128);
  expect(guest.domain.state.grants.maxFrames).toBe(128);
  expect(guest.store.server.store.accounts.limit(1, 'nodes')).toBe(3000);
  expect(guest.store.server.store.accounts.limit(1, 'watches')).toBe(128);
});
