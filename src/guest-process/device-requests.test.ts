import { expect, test } from 'vitest';
import { guestSpec, readGuestConfig } from './device-requests.js';

const read = (more: string) =>
  readGuestConfig(`name = "g"\nkernel = "k/vmlinuz"\n${more}`, 'g.cfg', '/guests');

test('files of a guest are found relative to where the command was given, and a missing uuid is made', () => {
  const config = read('ramdisk = "/r.gz"\nmemory = 64');
  expect(config).toMatchObject({ kernel: '/guests/k/vmlinuz', ramdisk: '/r.gz', memoryKib: 65536, vcpus: 1 });
  expect(config.uuid).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(read('').ramdisk).toBe('');
});

test('limits up to which memory and vCPUs may grow are passed on', () => {
  expect(read('memory = 64\nmaxmem = 128')).toMatchObject({ memoryKib: 65536, maxMemoryKib: 131072 });
  expect(read('vcpus = 2\nmaxvcpus = 4')).toMatchObject({ vcpus: 4, onlineVcpus: 2 });
  expect(read('vcpus = 2')).toMatchObject({ vcpus: 2, onlineVcpus: 2 });
});

test('disks and networks become devices; a missing MAC address is derived from the uuid, the same each time', () => {
  const uuid = 'uuid = "00000000-0000-4000-8000-000000000001"\n';
  const { devices } = read(
    `${uuid}disk = [ '/d,raw,xvda' ]\nvif = [ '', 'mac=00:16:3e:00:00:09,bridge=br1,devid=5' ]`,
  );
  expect(devices.map((d) => `${d.kind} ${d.devid}`)).toEqual(['vbd 51712', 'vif 0', 'vif 5']);
  const [, first, second] = devices.map((d) => JSON.parse(d.spec));
  expect(first).toMatchObject({ bridge: '', mtu: 1500, rate: null });
  expect(first.mac).toMatch(/^00:16:3e:[0-7][0-9a-f]:[0-9a-f]{2}:[0-9a-f]{2}$/);
  expect(second).toMatchObject({ mac: '00:16:3e:00:00:09', bridge: 'br1' });
  expect(JSON.parse(read(`${uuid}vif = [ '' ]`).devices[0].spec).mac).toBe(first.mac);
});

test("the guest's wall clock gets what the configuration adds, and the host's local time", () => {
  const kernel = new Uint8Array();
  const offset = (more: string) => guestSpec(read(more), kernel, undefined).clockOffsetS;
  const local = -60 * new Date().getTimezoneOffset();
  expect([offset(''), offset('rtc_timeoffset = 60'), offset('localtime = 1\nrtc_timeoffset = 60')]).toEqual([
    0,
    60,
    60 + local,
  ]);
  // A configuration that another host or version made.
  const more = { clockOffsetS: 'x', grantFrames: 9999, xenstoreQuotas: { nodes: 5000, watches: -1, x: 1 } };
  expect(guestSpec({ ...read(''), more }, kernel, undefined)).toMatchObject({
    clockOffsetS: 0,
    grantFrames: undefined,
    xenstoreQuotas: { nodes: 5000 },
  });
});
