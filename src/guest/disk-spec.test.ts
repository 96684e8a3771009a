import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDisk, vdevNumber } from './disk-spec.js';

const disk = (spec: string) =>
  parseDisk(spec, (message) => {
    throw new Error(message);
  });
const PLAIN = {
  target: '/dev/vg/guest-volume',
  format: 'raw',
  vdev: 'hda',
  virtualDevice: 0x300,
  readOnly: false,
  cdrom: false,
  backendType: '',
  discard: true,
  directIoSafe: false,
  trusted: true,
};

describe('a disk of an xl.cfg', () => {
  // The first two groups are the examples of xl-disk-configuration(5).
  test.each([
    '/dev/vg/guest-volume,,hda',
    '/dev/vg/guest-volume,raw,hda,rw',
    'format=raw, vdev=hda, access=rw, target=/dev/vg/guest-volume',
    'raw:/dev/vg/guest-volume,hda,w',
    'phy:/dev/vg/guest-volume,hda,w',
    'tap:aio:/dev/vg/guest-volume,hda,w',
    'vg/guest-volume,raw,hda',
  ])('%s', (spec) => {
    expect(disk(spec)).toEqual(PLAIN);
  });

  test.each([
    '/root/image.iso,,hdc,cdrom',
    '/root/image.iso,,hdc,,cdrom',
    '/root/image.iso,raw,hdc,devtype=cdrom',
    'format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/image.iso',
    'raw:/root/image.iso,hdc:cdrom,ro',
  ])('%s', (spec) => {
    expect(disk(spec)).toEqual({
      ...PLAIN,
      target: '/root/image.iso',
      vdev: 'hdc',
      virtualDevice: 0x1600,
      readOnly: true,
      cdrom: true,
    });
  });

  test('an empty drive, in the new syntax and the old', () => {
    for (const spec of ['vdev=hdc,cdrom', ',hdc:cdrom,r'])
      expect(disk(spec)).toMatchObject({
        target: '',
        format: 'empty',
        vdev: 'hdc',
        cdrom: true,
        readOnly: true,
      });
  });

  test('target= takes the rest of the text, with commas, colons and equal signs', () => {
    expect(disk('vdev=xvda,target=/a,b=c:d e')).toMatchObject({ target: '/a,b=c:d e', vdev: 'xvda' });
    expect(disk('vdev=xvda,format=qcow2,target=nbd://h:10809/e,xport')).toMatchObject({
      target: 'nbd://h:10809/e,xport',
      format: 'qcow2',
    });
  });

  test('flags and parameters may come in any order', () => {
    expect(disk('no-discard, direct-io-safe,/d,untrusted,raw,backendtype=qdisk,sdb1,r')).toEqual({
      ...PLAIN,
      target: '/d',
      vdev: 'sdb1',
      virtualDevice: 0x811,
      readOnly: true,
      backendType: 'qdisk',
      discard: false,
      directIoSafe: true,
      trusted: false,
    });
  });

  test.each([
    [
      '/d,raw,xvda,script=block-iscsi',
      'script is not supported: no program of the host runs for a disk. Connect the device',
    ],
    ['iscsi:iqn.x,xvda,w', 'iscsi: is not supported: no program of the host runs for a disk'],
    ['nbd:host:1,xvda,w', 'nbd: is not supported: no program'],
    ['/d,raw,xvda,specification=virtio', 'specification "virtio" is not supported (xen)'],
    [
      '/d,raw,xvda,backend=storage',
      'backend "storage" is not supported: there are no driver domains but domain 0',
    ],
    ['/d,raw,xvda,colo,colo-host=x', 'colo is not supported: a guest has no second copy'],
    ['/d,raw,xvda,speed=9', 'speed is not a parameter of a disk'],
    ['/d,zip,xvda', 'format "zip" is unknown'],
    ['/d,raw,xvda,x', 'access "x" is unknown'],
    ['/d,raw,xvda,rw,more', '"more": too many parameters without a name'],
    ['/d,raw,xvda,vdev=xvdb', 'vdev is given twice: "xvda" and "xvdb"'],
    ['/d,raw,xvda,format=vhd', 'format is given twice: "raw" and "vhd"'],
    ['/d,raw', 'no vdev is given'],
    ['vdev=xvda', 'no target is given'],
    ['/d,raw,floppy', 'vdev "floppy" is not the name of a virtual disk'],
    ['zfs:/pool/x,xvda,w', 'zfs: is not a prefix of a target'],
    ['/a=b,raw,xvda', '"/a=b" has "=" in it: such a target is written target=/a=b'],
    ['/d,raw,hdc:tape', 'device type "tape" is unknown'],
  ])('%s is refused: %s', (spec, message) => {
    expect(() => disk(spec)).toThrow(`disk '${spec}': ${message}`);
  });

  test('any text is parsed as a disk, or refused with a message', () => {
    const piece = fc.constantFrom(
      '/d',
      'raw',
      'xvda',
      ',',
      '=',
      ':',
      'target=',
      'vdev=',
      'cdrom',
      'format=',
      'phy:',
      ' ',
      'rw',
      '\n',
      'é',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
        try {
          expect(disk(pieces.join('')).virtualDevice).toBeGreaterThanOrEqual(0);
        } catch (e) {
          expect((e as Error).message).toMatch(/^disk '/s);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('the number of a virtual disk', () => {
  test.each([
    ['xvda', 51712],
    ['xvda1', 51713],
    ['xvdb', 51728],
    ['xvdp15', 51967],
    ['xvdq', 0x1000_1000],
    ['xvda16', 0x1000_0010],
    ['xvdaa', 0x1000_1a00],
    ['d0p0', 51712],
    ['d16p2', 0x1000_1002],
    ['hda', 768],
    ['hdb2', 834],
    ['hdc', 5632],
    ['hdd63', 5759],
    ['sda', 2048],
    ['sdp15', 2303],
    ['51712', 51712],
    ['0xca00', 51712],
  ])('%s is %d', (name, number) => {
    expect(vdevNumber(name)).toBe(number);
  });

  test.each([
    '',
    'xvd',
    'xvda01',
    'xvda0',
    'xvda256',
    'hde',
    'hda64',
    'sdq',
    'sda16',
    'vda',
    'd1',
    '0x',
    '2147483648',
    'xvdA',
  ])('%j is none', (name) => {
    expect(vdevNumber(name)).toBeUndefined();
  });
});
