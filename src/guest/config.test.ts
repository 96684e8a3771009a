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

  test('settings without effect get a warning, those that would matter are refused, both with file and line', () => {
    expect(read(`${BASE}cpus = "all"\nacpi = 1`).warnings).toEqual([
      'g.cfg:3:1: cpus has no effect on a PV guest here',
      'g.cfg:4:1: acpi has no effect on a PV guest here',
    ]);
    for (const setting of [
      'bootloader = "pygrub"',
      'pci = ["00:1"]',
      'vfb = []',
      'tsc_mode = "native"',
      'memoryy = 1',
    ])
      expect(() => read(`${BASE}\n  ${setting}`)).toThrow(
        `g.cfg:4:3: ${setting.split(' ')[0]} is not supported`,
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
    [`${BASE}memory = 4096`, 'g.cfg:3:10: memory = 4096 is not a whole number from 1 to 3000'],
    [`${BASE}memory = 089`, 'g.cfg:3:10: memory = 089 is not'],
    [`${BASE}memory = [1]`, 'g.cfg:3:10: memory is a list but should be a single value'],
    [`${BASE}memory = 1\nmemory += 2`, 'g.cfg:4:1: memory is a number: += cannot be used with it'],
    [`${BASE}memory = 64\nmaxmem = 32`, 'g.cfg:4:1: maxmem = 32 is less than memory'],
    [`${BASE}vcpus = 9`, 'g.cfg:3:9: vcpus = 9 is not a whole number from 1 to 8'],
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
    [`${BASE}vif = [ 'script=x' ]`, "g.cfg:3:9: vif 'script=x': script is not supported"],
    [
      `${BASE}on_crash = "coredump-restart"`,
      'g.cfg:3:1: on_crash = "coredump-restart" is not supported (destroy, restart, preserve)',
    ],
    [`${BASE}on_reboot = "dance"`, 'g.cfg:3:1: on_reboot = "dance" is unknown'],
    [`${BASE}clock = "stop"`, 'g.cfg:3:1: clock = "stop" is unknown (elapse, freeze)'],
  ])('%j is refused: %s', (source, message) => {
    expect(() => read(source)).toThrow(ConfigError);
    expect(() => read(source)).toThrow(message);
  });
});
