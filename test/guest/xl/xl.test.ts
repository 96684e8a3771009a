/**
 * What xl 4.17 makes of configurations (answers.jsonl, as capture.ts has asked it) is what we make of them; where it is
 * not, this file says how it differs.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readXlConfig, type XlConfig } from '../../../src/guest/config.js';
import { SAMPLES } from './samples.js';

interface Disk {
  readonly pdev_path?: string;
  readonly vdev: string;
  readonly backend?: string;
  readonly format: string;
  readonly readwrite?: number;
  readonly is_cdrom?: number;
  readonly direct_io_safe?: boolean;
  readonly discard_enable?: string;
  readonly trusted?: string;
}
interface Nic {
  readonly devid: number;
  readonly mac?: string;
  readonly bridge?: string;
  readonly ip?: string;
  readonly ifname?: string;
  readonly mtu?: number;
  readonly gatewaydev?: string;
  readonly trusted?: string;
  readonly rate_bytes_per_interval?: number;
  readonly rate_interval_usecs?: number;
}
interface Answer {
  readonly name: string;
  readonly status: number;
  readonly said: readonly string[];
  /** xl leaves out what is as by default. */
  readonly config: null | {
    readonly c_info: { readonly name: string; readonly uuid?: string };
    readonly b_info: {
      readonly kernel?: string;
      readonly ramdisk?: string;
      readonly cmdline?: string;
      readonly bootloader?: string;
      readonly target_memkb: number;
      readonly max_memkb: number;
      readonly avail_vcpus?: readonly number[];
      readonly max_vcpus?: number;
      readonly localtime?: string;
      readonly rtc_timeoffset?: number;
      readonly max_grant_frames?: number;
    };
    readonly disks?: readonly Disk[];
    readonly nics?: readonly Nic[];
    readonly on_poweroff?: string;
    readonly on_reboot?: string;
    readonly on_crash?: string;
  };
}
const ANSWERS: readonly Answer[] = readFileSync(new URL('answers.jsonl', import.meta.url), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line));

/**
 * xl refuses it, and here it starts: what editors write, what the manual says of escapes, and what only later versions
 * of xl have.
 */
const STARTS = new Set([
  '08-bom-crlf-latin1.cfg',
  '08b-crlf-latin1.cfg',
  'hexadecimal escapes',
  'a comment without a line end',
  'carriage returns',
  'a back end of a disk that is not trusted',
]);
/** xl starts it without what it says, or with what no guest of ours has; here it is refused with these words. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  '14-dup-mac.cfg': /has the same address/,
  'a number that is added': /vcpus is a number: \+= cannot be used with it/,
  'lists in a list': /disk has a list in it where a string should be/,
  'a list where text should be': /extra is a list but should be a single value/,
  'text where a list should be': /vif is a single value but should be a list/,
  'a script of a disk': /script is not supported/,
  'a bad address of a vif': /mac "zz" is not six groups/,
};
/** xl loses the character. */
const OTHER_CMDLINE: Readonly<Record<string, string>> = { 'octal escapes': 'aAb' };

const read = (name: string): XlConfig =>
  readXlConfig(Buffer.from(SAMPLES.get(name) as string, 'latin1').toString('utf8'), 'g.cfg');

/** The nearest that we have of an end. */
const end = (action: string | undefined, otherwise: string): string =>
  (action ?? otherwise).replace('restart_rename', 'restart').replace('_', '-');

function expectedOf(name: string, config: NonNullable<Answer['config']>) {
  const { c_info: c, b_info: b, disks = [], nics = [] } = config;
  return {
    name: c.name,
    uuid: c.uuid,
    // The boot loader finds the kernel, and adds the command line to that of the disk's menu.
    ...(b.bootloader === undefined
      ? {
          kernel: b.kernel,
          ramdisk: b.ramdisk,
          cmdline: OTHER_CMDLINE[name] ?? b.cmdline ?? '',
          bootLoader: undefined,
        }
      : { kernel: '', cmdline: '', bootLoader: { args: b.cmdline ?? '' } }),
    memoryKib: b.target_memkb,
    maxMemoryKib: b.max_memkb,
    vcpus: b.avail_vcpus?.length ?? 1,
    maxVcpus: b.max_vcpus ?? 1,
    onPoweroff: end(config.on_poweroff, 'destroy'),
    onReboot: end(config.on_reboot, 'destroy'),
    onCrash: end(config.on_crash, 'destroy'),
    localTime: b.localtime === 'True',
    // xl keeps it as 32 bits without a sign.
    clockOffsetS: (b.rtc_timeoffset ?? 0) | 0,
    maxGrantFrames: b.max_grant_frames,
    disks: disks.map((disk) => ({
      // libxl completes the names of devices later.
      target: /^($|[/])/.test(disk.pdev_path ?? '') ? (disk.pdev_path ?? '') : `/dev/${disk.pdev_path}`,
      vdev: disk.vdev,
      format: disk.format,
      readOnly: disk.readwrite !== 1,
      cdrom: disk.is_cdrom === 1,
      backendType: disk.backend ?? '',
      directIoSafe: disk.direct_io_safe === true,
      discard: disk.discard_enable !== 'False',
      trusted: disk.trusted !== 'False',
    })),
    vifs: nics.map((nic, i) => ({
      devid: nic.devid === i ? undefined : nic.devid,
      mac: nic.mac,
      bridge: nic.bridge,
      ip: nic.ip,
      vifName: nic.ifname,
      mtu: nic.mtu,
      gatewayDevice: nic.gatewaydev,
      trusted: nic.trusted !== 'False',
      rate:
        nic.rate_bytes_per_interval === undefined
          ? undefined
          : { bytesPerInterval: nic.rate_bytes_per_interval, intervalUs: nic.rate_interval_usecs },
    })),
  };
}

describe('a configuration', () => {
  test('of each kind has an answer of xl', () => {
    expect(ANSWERS.map(({ name }) => name)).toEqual([...SAMPLES.keys()]);
  });

  test.each(ANSWERS)('$name is read as by xl', ({ name, status, config }) => {
    if (name in REFUSED) {
      expect(status).toBe(0);
      expect(() => read(name)).toThrow(REFUSED[name]);
    } else if (STARTS.has(name)) {
      expect(status).not.toBe(0);
      expect(read(name).name).toBeTruthy();
    } else if (config === null) expect(() => read(name)).toThrow(/^g[.]cfg(:\d+:\d+)?: /);
    else expect(read(name)).toMatchObject(expectedOf(name, config));
  });
});
