import { describe, expect, test } from 'vitest';
import { readXlConfig } from './config.js';
import { ConfigError } from './xl-cfg.js';

const read = (source: string) => readXlConfig(source, 'g.cfg');
const BASE = 'name = "g"\nkernel = "/k"\n';

describe('the configuration of a guest', () => {
  test('a configuration that says little gets the defaults of xl', () => {
    const config = read(BASE);
    expect(config).toEqual({
      name: 'g',
      uuid: undefined,
      kernel: '/k',
      ramdisk: undefined,
      cmdline: '',
      memoryKib: 32768,
      maxMemoryKib: 32768,
      vcpus: 1,
      maxVcpus: 1,
      disks: [],
      vifs: [],
      onPoweroff: 'destroy',
      onReboot: 'restart',
      onCrash: 'destroy',
      clock: 'elapse',
      clockOffsetS: 0,
      localTime: false,
      maxGrantFrames: undefined,
      xenstoreQuotas: {},
      warnings: [],
    });
  });

  test('a configuration may set everything', () => {
    const config = read(`${BASE}
type = "pv"
uuid = "EA175E9D-d885-4390-98e8-fdfbeb53849e"
ramdisk = "/r"
extra = "console=hvc0"
root = "/dev/xvda1 ro"
memory = 0x100
maxmem = "512"
vcpus = 2
maxvcpus = 4
disk = [ '/d,raw,xvda', '/e,,xvdb,r' ]
vif = [ '', 'mac=00:16:3e:00:00:01' ]
on_poweroff = "preserve"
on_reboot = 'destroy'
on_crash = "restart"
clock = "freeze"`);
    expect(config).toMatchObject({
      uuid: 'ea175e9d-d885-4390-98e8-fdfbeb53849e',
      ramdisk: '/r',
      cmdline: 'root=/dev/xvda1 ro console=hvc0',
      memoryKib: 262144,
      maxMemoryKib: 524288,
      vcpus: 2,
      maxVcpus: 4,
      onPoweroff: 'preserve',
      onReboot: 'destroy',
      onCrash: 'restart',
      clock: 'freeze',
      warnings: [],
    });
    expect(config.disks.map((d) => [d.target, d.virtualDevice, d.readOnly])).toEqual([
      ['/d', 51712, false],
      ['/e', 51728, true],
    ]);
    expect(config.vifs.map((v) => v.mac)).toEqual([undefined, '00:16:3e:00:00:01']);
  });

  test('cmdline takes precedence over root and extra, with a warning', () => {
    const config = read(`${BASE}cmdline = "quiet"\nextra = "x"\n`);
    expect(config.cmdline).toBe('quiet');
    expect(config.warnings).toEqual(['g.cfg:4:1: extra does not count, as cmdline is set']);
    expect(read(`${BASE}root = "/dev/xvda"`).cmdline).toBe('root=/dev/xvda');
    expect(read(`${BASE}extra = "x"`).cmdline).toBe('x');
  });

  test('the old builder = "generic" and a shortened type are understood, other kinds of guest refused', () => {
    expect(read(`${BASE}builder = "generic"\ntype = "p"`).name).toBe('g');
    expect(() => read(`${BASE}type = "pvh"`)).toThrow('g.cfg:3:1: type = "pvh" is not supported (pv)');
    expect(() => read(`${BASE}builder = "hvm"`)).toThrow('g.cfg:3:1: builder = "hvm" is not supported');
  });

  test('settings without effect get a warning, in the order of the file', () => {
    expect(read(`${BASE}vif = ['script=x']\nacpi = 1\ncpus = "all"`).warnings).toEqual([
      expect.stringMatching(/^g[.]cfg:3:8: vif 'script=x': script=x does not run here: .*bridge:NAME/),
      expect.stringMatching(/^g[.]cfg:4:1: acpi has no effect on a PV guest/),
      expect.stringMatching(/^g[.]cfg:5:1: cpus has no effect here/),
    ]);
  });

  test('settings that are not supported are refused before all else, with their places, and what to do instead', () => {
    expect(() => read('name = "g"\n vtpm = [ "x" ]\npci = [ "00:1" ]\nmemory = 9999')).toThrow(
      /^g[.]cfg:2:2: vtpm is not supported: .*\ng[.]cfg:3:1: pci is not supported: .* instead.*$/,
    );
  });

  test('a guest boots from its own disk as pygrub and pvgrub do, with what they are told', () => {
    const loader = (rest: string) => read(`name = "g"\n${rest}`).bootLoader;
    const none = { args: '', kernel: '', ramdisk: '', entry: '', config: '', quiet: false, offset: 0 };
    expect(loader('bootloader = "/usr/lib/xen-4.4/bin/pygrub"\nroot = "/dev/xvda1"\nextra = "ro"')).toEqual({
      ...none,
      args: 'root=/dev/xvda1 ro',
    });
    expect(loader('bootloader = "pygrub"\nkernel = "/vmlinuz"\nramdisk = "/initrd"')).toMatchObject({
      kernel: '/vmlinuz',
      ramdisk: '/initrd',
    });
    expect(loader('bootloader = "pygrub"\nbootloader_args = "-q --offset=1048576 --entry 2"')).toEqual({
      ...none,
      quiet: true,
      offset: 1048576,
      entry: '2',
    });
    expect(loader('bootloader = "pygrub"\nbootargs = "--kernel=/k"\nbootentry = "a b"')).toMatchObject({
      kernel: '/k',
      entry: 'a b',
    });
    expect(loader('firmware = "pvgrub64"')).toEqual(none);
    expect(
      loader('kernel = "/usr/lib/xen/boot/pv-grub-x86_64.gz"\nextra = "(hd0,0)/grub/menu.lst"'),
    ).toMatchObject({ config: '/grub/menu.lst' });
    expect(loader('kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"')).toBeUndefined();
    expect(read('name = "g"\nkernel = "/k"\nbootloader_args = "-q"').warnings).toEqual([
      'g.cfg:3:19: bootloader_args has no effect without bootloader',
    ]);
  });

  test('an unknown key is warned about, as xl ignores it, and a likely mistake of typing is named', () => {
    expect(read(`${BASE}memroy = 512\nxyzzy_plugh = []\nxyzzy_plough = 1`)).toMatchObject({
      memoryKib: 32768,
      warnings: [
        'g.cfg:3:1: memroy is unknown, and is ignored, as by xl (is memory meant?)',
        'g.cfg:5:1: xyzzy_plough is unknown, and is ignored, as by xl',
      ],
    });
  });

  test('a value that asks for nothing, or for what every guest has, is accepted in silence', () => {
    const nothing =
      'vnc = 0\nvfb = []\npci = [ ]\nsdl="0"\nserial = "none"\nusbdev = [ "" ]\nbootloader = ""\ncap = 00';
    expect(
      read(`${BASE}${nothing}\ntsc_mode = "default"\nmax_grant_version = 1\ndhcp = "off"`).warnings,
    ).toEqual([]);
    expect(read(`${BASE}tsc_mode = "native"\nmax_grant_version = 2`).warnings).toHaveLength(2);
  });

  test('there are not more warnings than anybody reads, nor longer ones', () => {
    const { warnings } = read(`${BASE}${Array.from({ length: 150 }, (_, i) => `u${i} = 1\n`).join('')}`);
    expect(warnings).toHaveLength(101);
    expect(warnings[0]).toBe('g.cfg:3:1: u0 is unknown, and is ignored, as by xl');
    expect(warnings.at(-1)).toBe('g.cfg: there are 50 more warnings');
    expect(read(`${BASE}vif = ['${'x'.repeat(9000)}=1']`).warnings[0].length).toBeLessThan(1100);
  });

  test('ends that xl has and that are not done whole become the nearest, with a warning', () => {
    expect(read(`${BASE}on_crash = "coredump-restart"\non_reboot = "rename-restart"`)).toMatchObject({
      onCrash: 'coredump-restart',
      onReboot: 'restart',
      warnings: [
        'g.cfg:4:1: on_reboot = "rename-restart" is as "restart" here: the domain that has ended is not kept',
      ],
    });
  });

  test("the limits of grants and of the guest's xenstore", () => {
    expect(
      read(
        `${BASE}max_grant_frames = 0x80\nxenstore_quota = [ "nodes=3000", "watches = 500", "node-size=1" ]`,
      ),
    ).toMatchObject({
      maxGrantFrames: 128,
      xenstoreQuotas: { nodes: 3000, watches: 500 },
      warnings: [
        expect.stringMatching(/^g[.]cfg:4:51: xenstore_quota: node-size is not set here [(]nodes, /),
      ],
    });
    expect(() => read(`${BASE}max_grant_frames = 1025`)).toThrow(
      'g.cfg:3:20: max_grant_frames = 1025 is not',
    );
    for (const quota of ['nodes', 'nodes=x', 'nodes=0', 'nodes=99999999'])
      expect(() => read(`${BASE}xenstore_quota = ["${quota}"]`)).toThrow(
        `g.cfg:3:19: xenstore_quota: ${quota} is not nodes = a whole number from 1 to 100000`,
      );
  });

  test("the wall clock's difference from true time is a number of seconds, which may be negative", () => {
    expect(read(`${BASE}localtime = 1\nrtc_timeoffset = " -3600"`)).toMatchObject({
      localTime: true,
      clockOffsetS: -3600,
      warnings: [],
    });
    expect(() => read(`${BASE}rtc_timeoffset = 999999999`)).toThrow(
      'g.cfg:3:18: rtc_timeoffset = 999999999 is not',
    );
  });

  test('one image may be two disks of a guest if neither can be written', () => {
    const { disks } = read(
      `${BASE}disk = [ '/d,raw,xvda,r', '/d,raw,xvdb,r', ',,hda,cdrom', ',,hdb,cdrom' ]`,
    );
    expect(disks).toHaveLength(4);
  });

  test('a setting given twice is warned about', () => {
    expect(read(`${BASE}memory = 64\nmemory = 65`)).toMatchObject({
      memoryKib: 65 * 1024,
      warnings: ['g.cfg:3:1: memory is set again further down: this one does not count'],
    });
  });

  test.each([
    ['kernel = "/k"', 'g.cfg: name is missing'],
    ['name = "g"', 'g.cfg: kernel is missing'],
    [`${BASE}name = "a/b"`, 'g.cfg:3:1: name "a/b" cannot be the name of a guest'],
    [`${BASE}memory = "12x"`, 'g.cfg:3:10: memory = 12x is not a whole number from 1 to 3000'],
    [
      `${BASE}memory = 4096`,
      'g.cfg:3:10: memory = 4096 is not a whole number from 1 to 3000: a guest here has at most 3000 MiB',
    ],
    [`${BASE}memory = 089`, 'g.cfg:3:10: memory = 089 is not'],
    [`${BASE}memory = [1]`, 'g.cfg:3:10: memory is a list but should be a single value'],
    [`${BASE}memory = 1\nmemory += 2`, 'g.cfg:4:1: memory is a number: += cannot be used with it'],
    [`${BASE}memory = 64\nmaxmem = 32`, 'g.cfg:4:1: maxmem = 32 is less than memory'],
    [
      `${BASE}vcpus = 9`,
      'g.cfg:3:9: vcpus = 9 is not a whole number from 1 to 8: a guest here has at most 8 vCPUs',
    ],
    [`${BASE}vcpus = 2\nmaxvcpus = 1`, 'g.cfg:4:1: maxvcpus = 1 is less than vcpus'],
    [`${BASE}uuid = "1234"`, 'g.cfg:3:1: uuid "1234" is not a valid uuid'],
    [`${BASE}disk = "x"`, 'g.cfg:3:8: disk is a single value but should be a list'],
    [`${BASE}disk = [ [ "x" ] ]`, 'g.cfg:3:10: disk has a list in it where a string should be'],
    [
      `${BASE}disk = [\n "/d,raw,xvda",\n "/e,raw,xvda" ]`,
      "g.cfg:5:2: disk '/e,raw,xvda': vdev xvda is taken by '/d,raw,xvda'",
    ],
    [`${BASE}vif = [ '', 'devid=0' ]`, "g.cfg:3:13: vif 'devid=0': devid 0 is taken by another"],
    [
      `${BASE}vif = [ 'mac=00:16:3e:00:00:01', 'mac=0:16:3E:0:0:1' ]`,
      "g.cfg:3:34: vif 'mac=0:16:3E:0:0:1': 'mac=00:16:3e:00:00:01' has the same address",
    ],
    [
      `${BASE}disk = [ '/d,raw,xvda,r', '/d,raw,xvdb,w' ]`,
      "g.cfg:3:27: disk '/d,raw,xvdb,w': xvda has the same image, and one of both may be written to",
    ],
    [`${BASE}vif = [ 'type=ioemu' ]`, 'g.cfg:3:9: vif \'type=ioemu\': type "ioemu" is for HVM guests'],
    [`${BASE}on_crash = "soft-reset"`, 'g.cfg:3:1: on_crash = "soft-reset" is not for PV guests (destroy, '],
    [`${BASE}on_reboot = "dance"`, 'g.cfg:3:1: on_reboot = "dance" is unknown'],
    [
      'name = "g"\nbootloader = "/bin/ls"',
      'g.cfg:2:1: bootloader = "/bin/ls" is not supported (pygrub, pvgrub)',
    ],
    ['name = "g"\nfirmware = "pvgrub32"', 'g.cfg:2:1: firmware = "pvgrub32" is not supported: only 64-bit'],
    ['name = "g"\nfirmware = "uefi"', 'g.cfg:2:1: firmware = "uefi" is unknown (pvgrub64)'],
    [`${BASE}firmware = "pvgrub64"`, 'g.cfg:3:1: kernel and firmware are both there'],
    [
      'name = "g"\nkernel = "/x/pv-grub-x86_32.gz"',
      'g.cfg:2:1: kernel = "/x/pv-grub-x86_32.gz" is not supported',
    ],
    [
      'name = "g"\nbootloader = "pygrub"\nbootloader_args = ["--offset=5"]',
      'g.cfg:3:20: bootloader_args: --offset=5 is no number of bytes, a multiple of 512',
    ],
    [
      'name = "g"\nbootloader = "pygrub"\nbootloader_args = "--entry"',
      'g.cfg:3:19: bootloader_args: --entry has no value',
    ],
    [`${BASE}clock = "stop"`, 'g.cfg:3:1: clock = "stop" is unknown (elapse, freeze)'],
  ])('%j is refused: %s', (source, message) => {
    expect(() => read(source)).toThrow(ConfigError);
    expect(() => read(source)).toThrow(message);
  });
});
