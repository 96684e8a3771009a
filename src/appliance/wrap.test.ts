import { expect, test } from 'vitest';
import { BOOT_LOADER } from '../guest/boot-loader.js';
import { readXlConfig } from '../guest/config.js';
import { vdevNumber } from '../guest/disk-spec.js';
import { parseConfig } from '../guest/xl-cfg.js';
import { CPU_LEVELS } from './cpu-level.js';
import { HELPER_CMDLINE, linuxDisk, OVERHEAD_MIB, unwrap, type WrapOptions, wrap } from './wrap.js';

const UUID = '12345678-1234-1234-1234-123456789abc';
const OPTIONS: WrapOptions = {
  file: 'g.cfg',
  kernelPath: '/appliance/vmlinux',
  ramdiskPath: '/etc/xen/g.helper.initrd',
  makeUuid: () => UUID,
  makeMac: (uuid, devid) => `00:16:3e:${uuid.slice(0, 2)}:00:0${devid}`,
};
const MIB = 2 ** 20;

/** What the helper's file says, by our own reading of xl's syntax: a list is its items. */
function outer(source: string, more: Partial<WrapOptions> = {}): Record<string, string | string[]> {
  const { config } = wrap(Buffer.from(source), { ...OPTIONS, ...more }).helper(10 * MIB);
  const all = [...parseConfig(config.toString(), 'h.cfg').settings.values()];
  return Object.fromEntries(
    all.map(({ name, value }) => [
      name,
      value.kind === 'text'
        ? value.text
        : value.items.map((item) => (item.kind === 'text' ? item.text : '[]')),
    ]),
  );
}
const inner = (source: string) =>
  readXlConfig(wrap(Buffer.from(source), OPTIONS).guestConfig, '/guest/guest.cfg');
const refusal = (source: string, more: Partial<WrapOptions> = {}): string => {
  try {
    wrap(Buffer.from(source), { ...OPTIONS, ...more });
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing is refused';
};

const MINIMAL = 'name = "g"\nkernel = "k"\n';
const WHOLE = `# A guest of the kind that is in many a file.
name    = 'web "1"'
type    = "pv"
uuid    = "ABCDEF01-0000-0000-0000-000000000001"
kernel  = "/boot/vmlinuz-6.1"; ramdisk = "initrd.img"
root    = "/dev/xvda1 ro"
extra   = 'console=hvc0 path=\\\\srv\\x09tab'
memory  = 128
maxmem  = 0x100
vcpus   = 2
maxvcpus = 4
cpus    = ["0-3", "^1"]
cpu_weight = 512
clock   = "freeze"
on_crash = "coredump-restart"
on_watchdog = "restart"
disk = [
  'phy:/dev/vg/root,xvda,w',  # the first
  'format=qcow2, vdev=hdc, access=ro, devtype=cdrom, target=/iso/a, b.iso',
  'no-discard,untrusted,script=block-iscsi,vdev=xvdb,target=iqn=x,portal=y',
]
vif = [ 'mac=00:16:3E:1:2:3,bridge=br0,ip=10.0.0.2,rate=10Mb/s,script=vif-route,antispoof=no', 'devid=5,mtu=9000' ]
`;

test("the helper has its guest's name, uuid, disks, vifs, processors and policies, and its own kernel", () => {
  expect(outer(WHOLE)).toEqual({
    name: 'web "1"',
    type: 'pvh',
    uuid: 'abcdef01-0000-0000-0000-000000000001',
    kernel: OPTIONS.kernelPath,
    ramdisk: OPTIONS.ramdiskPath,
    cmdline: HELPER_CMDLINE,
    memory: expect.stringMatching(/^\d+$/),
    vcpus: '2',
    maxvcpus: '4',
    cpus: ['0-3', '^1'],
    cpu_weight: '512',
    on_crash: 'coredump-restart',
    on_watchdog: 'restart',
    disk: [
      'phy:/dev/vg/root,xvda,w',
      'format=qcow2, vdev=hdc, access=ro, devtype=cdrom, target=/iso/a, b.iso',
      'no-discard,untrusted,script=block-iscsi,vdev=xvdb,target=iqn=x,portal=y',
    ],
    // The address is the guest's; xl does not know `antispoof`.
    vif: [
      'mac=00:16:3e:01:02:03,bridge=br0,ip=10.0.0.2,rate=10Mb/s,script=vif-route',
      'mac=00:16:3e:ab:00:05,devid=5,mtu=9000',
    ],
  });
});

test('the guest has its own settings, with the devices of the helper', () => {
  const guest = inner(WHOLE);
  expect(guest).toMatchObject({
    name: 'web "1"',
    uuid: 'abcdef01-0000-0000-0000-000000000001',
    kernel: '/guest/kernel',
    ramdisk: '/guest/ramdisk',
    cmdline: 'root=/dev/xvda1 ro console=hvc0 path=\\srv\ttab',
    memoryKib: 128 * 1024,
    maxMemoryKib: 256 * 1024,
    vcpus: 2,
    maxVcpus: 4,
    clock: 'freeze',
    warnings: [],
  });
  const disk = { target: '/dev/xvda', format: 'raw', vdev: 'xvda', readOnly: false, cdrom: false };
  expect(guest.disks).toMatchObject([
    disk,
    { ...disk, target: '/dev/xvdc', vdev: 'hdc', readOnly: true, cdrom: true },
    { ...disk, target: '/dev/xvdb', vdev: 'xvdb', discard: false, trusted: false },
  ]);
  // What dom0 does with the helper's vif is not done once more inside.
  const vif = { mac: '00:16:3e:01:02:03', bridge: 'br0', ip: undefined, rate: undefined, antispoof: false };
  expect(guest.vifs).toMatchObject([vif, { mac: '00:16:3e:ab:00:05', devid: 5, mtu: 9000, antispoof: true }]);
});

test("the memory is what the guest can get, its files, the overhead, and the pages' descriptions", () => {
  const memory = (source: string, more = {}) => Number(outer(source, more).memory);
  expect(memory(`${MINIMAL}memory = 128\n`)).toBe(Math.ceil(((128 + 10 + OVERHEAD_MIB) * 65) / 64));
  expect(memory(WHOLE)).toBe(Math.ceil(((256 + 10 + OVERHEAD_MIB) * 65) / 64));
  expect(memory(`${MINIMAL}memory = 118\n`, { overheadMib: 128 })).toBe(260);
});

test('a guest without a uuid and without an address gets one of each, the same inside and outside', () => {
  const source = `${MINIMAL}vif = ['']\n`;
  expect(outer(source)).toMatchObject({ uuid: UUID, vif: ['mac=00:16:3e:12:00:00'] });
  expect(inner(source)).toMatchObject({ uuid: UUID, vifs: [{ mac: '00:16:3e:12:00:00' }] });
});

test('unwrap gives the file back byte for byte', () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i).filter((i) => i !== 10));
  const files = [
    Buffer.from(WHOLE),
    Buffer.from(MINIMAL.trimEnd()),
    Buffer.from(`${MINIMAL}\n\n`),
    Buffer.from(`\n#|\n# The guest's own configuration: 1 bytes, SHA-256 ${'0'.repeat(64)}\n${MINIMAL}`),
    Buffer.from(MINIMAL.replaceAll('\n', '\r\n')),
    // No UTF-8, in a comment.
    Buffer.concat([Buffer.from(`${MINIMAL}#`), bytes]),
  ];
  for (const file of files) {
    const { config } = wrap(file, OPTIONS).helper(0);
    expect(unwrap(config, 'h.cfg').equals(file)).toBe(true);
  }
});

test('unwrap refuses a file that wrap has not made, and one whose comments were changed', () => {
  expect(() => unwrap(Buffer.from(WHOLE), 'h.cfg')).toThrow(
    'h.cfg: this is no file that stillpoint wrap has made',
  );
  const config = wrap(Buffer.from(MINIMAL), OPTIONS).helper(0).config.toString();
  const line = config.split('\n').findIndex((one) => one.includes('own configuration')) + 1;
  for (const changed of [
    config.replace('#|name = "g"', '#|name = "h"'),
    config.replace('#|kernel = "k"\n', ''),
  ])
    expect(() => unwrap(Buffer.from(changed), 'h.cfg')).toThrow(
      `h.cfg:${line}:1: the guest's own configuration`,
    );
  // The settings above them may be changed.
  expect(unwrap(Buffer.from(config.replace('vcpus = 1', 'vcpus = 2')), 'h.cfg').toString()).toBe(MINIMAL);
});

test('all settings that cannot be wrapped are named with their places', () => {
  expect(
    refusal(`${MINIMAL}pci = ['01:00.0']\nvfb = ['vnc=1']\nusbctrl = ['version=2']\nno_such = 1\n`),
  ).toMatch(/^g[.]cfg:3:1: pci is not supported: .*\ng[.]cfg:5:1: usbctrl is not supported: .*$/);
  expect(refusal(`${MINIMAL}type = "hvm"\n`)).toMatch(/^g[.]cfg:3:1: type = "hvm" is not supported/);
  // What wrap has made is not wrapped again.
  expect(refusal(wrap(Buffer.from(MINIMAL), OPTIONS).helper(0).config.toString())).toMatch(/type = "pvh"/);
  expect(refusal('name = "g"\nkernel =\n')).toMatch(/^g[.]cfg:2:9: /);
});

test('what has no effect on a guest is warned about, unless the helper domain gets it', () => {
  const source = `${MINIMAL}vfb = ['vnc=1']\ncap = 50\ntsc_mode = "native"\nno_such = 1\nvif = ['script=mine']\n`;
  expect(wrap(Buffer.from(source), OPTIONS).warnings).toEqual([
    expect.stringMatching(/^g[.]cfg:3:1: vfb has no effect here/),
    expect.stringMatching(/^g[.]cfg:6:1: no_such is unknown/),
  ]);
  expect(outer(source)).toMatchObject({ cap: '50', tsc_mode: 'native' });
  expect(outer(source)).not.toHaveProperty('vfb');
});

test('what the wall clock is ahead by is the same inside, with the local time of the host that wraps', () => {
  const options = { ...OPTIONS, localOffsetS: () => 7200 };
  const inside = (source: string) =>
    readXlConfig(wrap(Buffer.from(MINIMAL + source), options).guestConfig, 'g').clockOffsetS;
  expect(inside('localtime = 1\nrtc_timeoffset = 60\n')).toBe(7260);
  expect(inside('rtc_timeoffset = "-60"\n')).toBe(-60);
  expect(inside('')).toBe(0);
});

test('a disk that the helper could not show is refused with its place', () => {
  const disk = (...specs: string[]) => refusal(`${MINIMAL}disk = [${specs.map((one) => `'${one}'`)}]\n`);
  expect(disk('vdev=hdc,cdrom')).toMatch(/^g[.]cfg:3:9: disk .*drive without a medium/);
  expect(disk('vdev=xvda,target=nbd://h/x')).toMatch(/nbd:\/\/h\/x is no target that xl has/);
  expect(disk('/a,raw,xvda,w', '/b,raw,sda,w')).toMatch(/^g[.]cfg:3:25: .*both be xvda/);
  expect(disk('/a,raw,xvda,w,colo')).toMatch(/^g[.]cfg:3:9: /);
});

test('a guest that boots from its own disk does so in its helper, with all settings, unless a kernel is given', () => {
  const source =
    'name = "g"\nbootloader = "pygrub"\nextra = "console=hvc0"\nbootloader_args = ["-q", "--kernel=/k\\"", "--offset=512"]\n';
  const own = wrap(Buffer.from(source), OPTIONS);
  expect(own.kernel).toBe(BOOT_LOADER);
  expect(readXlConfig(own.guestConfig, 'g')).toMatchObject({
    bootLoader: readXlConfig(source, 'g').bootLoader,
    cmdline: '',
    warnings: [],
  });
  const given = wrap(Buffer.from(source), { ...OPTIONS, kernel: '/usr/lib/grub-xen/grub-x86_64-xen.bin' });
  expect(given.kernel).toBe('/usr/lib/grub-xen/grub-x86_64-xen.bin');
  expect(unwrap(given.helper(0).config, 'h.cfg').toString()).toBe(source);
});

test('level v2 clears what x86-64-v2 does not have, in 32 bits for each register', () => {
  expect(outer(MINIMAL).cpuid).toBeUndefined();
  const cpuid = outer(MINIMAL, { level: 'v2' }).cpuid as string[];
  expect(cpuid).toEqual([...CPU_LEVELS.v2]);
  const bit = (leaf: string, register: string, number: number) => {
    const bits = new RegExp(`${register}=([01x]+)`).exec(
      cpuid.find((one) => one.startsWith(`${leaf}:`)) ?? '',
    )?.[1];
    expect(bits).toHaveLength(32);
    return bits?.[31 - number];
  };
  const names = { sse3: 0, ssse3: 9, cx16: 13, sse41: 19, sse42: 20, popcnt: 23 };
  for (const number of Object.values(names)) expect(bit('0x1', 'ecx', number)).toBe('x');
  const hidden = { pclmulqdq: 1, fma: 12, movbe: 22, aes: 25, xsave: 26, avx: 28, f16c: 29, rdrand: 30 };
  for (const number of Object.values(hidden)) expect(bit('0x1', 'ecx', number)).toBe('0');
  expect([bit('0x80000001', 'ecx', 0), bit('0x80000001', 'ecx', 5)]).toEqual(['x', '0']);
  expect([bit('0x80000001', 'edx', 29), bit('0x80000001', 'edx', 27)]).toEqual(['x', '0']);
  expect([2, 1, 0].map((number) => bit('0x0', 'eax', number)).join('')).toBe('110');
});

test('disks have the names that Linux gives them by their numbers', () => {
  const name = (vdev: string) => linuxDisk(vdevNumber(vdev) ?? -1);
  expect(['xvda', 'xvdp', 'xvdq', 'xvdaa', 'xvda1', 'xvdb15', 'xvdq3'].map(name)).toEqual([
    'xvda',
    'xvdp',
    'xvdq',
    'xvdaa',
    'xvda1',
    'xvdb15',
    'xvdq3',
  ]);
  expect(['hda', 'hdb', 'hdc', 'hdd', 'sda', 'sdp', 'sda1'].map(name)).toEqual([
    'xvda',
    'xvdb',
    'xvdc',
    'xvdd',
    'xvda',
    'xvdp',
    'xvda1',
  ]);
  expect(linuxDisk(1 << 8)).toBeUndefined();
});

const MOVES = { address: '10.0.0.7', prefix: 24, port: 7777, vif: 'bridge=own' };
const moves = { ...MOVES, absolute: (name: string) => (name === '' ? '' : `/srv/${name}`) };

test('a guest that is to move has its files as other hosts name them, and its helper one vif more', () => {
  const disk = 'format=qcow2,vdev=xvda,access=r,untrusted,target=/srv/a,b.img';
  const source = `${MINIMAL}on_reboot = "preserve"\ndisk = ["${disk}"]\n`;
  const wrapped = wrap(Buffer.from(`${source}vif = ["bridge=br0"]\n`), { ...OPTIONS, moves });
  expect(wrapped.moves).toEqual({
    address: '10.0.0.7',
    port: 7777,
    vif: { mac: '00:16:3e:12:00:065535', prefix: 24, gateway: undefined },
  });
  const guest = readXlConfig(wrapped.guestConfig, '/guest/guest.cfg');
  expect(guest).toMatchObject({ kernel: '/srv/k', onReboot: 'preserve' });
  expect(guest.disks).toMatchObject([
    { target: '/srv/a,b.img', format: 'qcow2', vdev: 'xvda', readOnly: true, trusted: false },
  ]);
  expect(guest.vifs.length).toBe(1);
  const helper = outer(`${source}vif = ["bridge=br0"]\n`, { moves });
  expect(helper['vif']).toEqual(['mac=00:16:3e:12:00:00,bridge=br0', 'mac=00:16:3e:12:00:065535,bridge=own']);
  expect(helper['on_reboot']).toBe('preserve');
});

test('a guest that may live on another host is not started anew by dom0 when its helper has ended', () => {
  for (const policy of ['on_crash = "restart"', 'on_poweroff = "restart"', 'on_watchdog = "rename-restart"'])
    expect(refusal(`${MINIMAL}${policy}\n`, { moves })).toMatch(
      /^g[.]cfg:3:\d+: on_\w+ = "[a-z-]+" cannot be wrapped with --listen: /,
    );
  expect(refusal(`${MINIMAL}on_crash = "restart"\n`)).toBe('nothing is refused');
  expect(refusal(`${MINIMAL}on_reboot = "restart"\non_crash = "preserve"\n`, { moves })).toBe(
    'nothing is refused',
  );
});
