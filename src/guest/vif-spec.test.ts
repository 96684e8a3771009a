import { describe, expect, test } from 'vitest';
import { parseRate, parseVif } from './vif-spec.js';

const fail = (message: string): never => {
  throw new Error(message);
};
const vif = (spec: string) => {
  const warnings: string[] = [];
  return { ...parseVif(spec, fail, (w) => warnings.push(w)), warnings };
};
const NONE = {
  mac: undefined,
  bridge: undefined,
  gatewayDevice: undefined,
  ip: undefined,
  vifName: undefined,
  devid: undefined,
  mtu: undefined,
  rate: undefined,
  antispoof: true,
  trusted: true,
  warnings: [],
};

describe('a network interface of an xl.cfg', () => {
  test('an empty text is an interface with all defaults', () => {
    expect(vif('')).toEqual(NONE);
  });

  test('every parameter that a PV guest can have', () => {
    expect(
      vif(
        'mac=00:16:3E:74:3d:76, bridge=xenbr0,ip=10.0.0.2 10.0.0.3,vifname=web0,rate=1MB/s@20ms,mtu=9000,devid=3,type=vif,backend=0,gatewaydev=eth0',
      ),
    ).toEqual({
      mac: '00:16:3e:74:3d:76',
      bridge: 'xenbr0',
      gatewayDevice: 'eth0',
      ip: '10.0.0.2 10.0.0.3',
      vifName: 'web0',
      devid: 3,
      mtu: 9000,
      rate: { bytesPerInterval: 20000, intervalUs: 20000 },
      antispoof: true,
      trusted: true,
      warnings: [],
    });
  });

  test('may send from its own addresses only, unless the configuration says no', () => {
    expect(vif('antispoof=no').antispoof).toBe(false);
    expect(vif('untrusted').trusted).toBe(false);
    expect(vif('ip=10.0.0.5/24 2001:db8::5,antispoof=yes').antispoof).toBe(true);
  });

  test('parameters without effect get a warning', () => {
    expect(vif('script=/etc/xen/scripts/vif-bridge,backend=0,trusted,bridge=b')).toEqual({
      ...NONE,
      bridge: 'b',
    });
    for (const [spec, words] of [
      ['script=vif-route', 'script=vif-route does not run here: .*, such as tap:NAME .docs/networks[.]md.'],
      ['script=/x/mine', 'script=/x/mine does not run here: .*, such as bridge:NAME '],
      ['backend=net', 'backend has no effect here: .*no driver domains'],
      ['colo_sock_mirror_id=1', 'colo_sock_mirror_id has no effect here'],
      ['speed=9', 'speed=9 is no parameter of a vif, and is ignored, as by xl'],
      ['xenbr0', 'xenbr0 is no parameter of a vif'],
    ])
      expect(vif(spec)).toEqual({
        ...NONE,
        warnings: [expect.stringMatching(new RegExp(`^vif '${spec}': ${words}`))],
      });
    expect(vif('model=rtl8139').warnings).toEqual(["vif 'model=rtl8139': model has no effect on a PV guest"]);
    expect(vif('netdev=eth1')).toMatchObject({
      gatewayDevice: 'eth1',
      warnings: [expect.stringContaining('deprecated')],
    });
  });

  test.each([
    ['mac=00:16:3e:74:3d', 'is not six groups'],
    ['mac=00:16:3e:74:3d:zz', 'is not six groups'],
    ['mac=01:16:3e:74:3d:76', 'is a group address'],
    ['type=ioemu', 'type "ioemu" is for HVM guests'],
    ['bridge', '"bridge" is not of the form key=value'],
    ['mtu=12', 'mtu "12" is not a whole number from 68 to 65535'],
    ['devid=x', 'devid "x" is not'],
    ['ip=10.0.0', 'ip "10.0.0" is not an IP address'],
    ['antispoof=maybe', 'antispoof "maybe" is neither yes nor no'],
    ['rate=10', 'rate "10" is not a rate'],
    ['rate=0Mb/s', 'rate "0Mb/s" is out of range'],
    ['rate=1Mb/s@', 'interval "" is not a time'],
    ['rate=1Mb/s@5000s', 'interval "5000s" is out of range'],
  ])('%s is refused: %s', (spec, message) => {
    expect(() => vif(spec)).toThrow(message);
    expect(() => vif(spec)).toThrow(`vif '${spec}': `);
  });
});

describe('a rate', () => {
  // The figures are those of Xen's tools/libs/util/libxlu_vif.c.
  test.each([
    ['10Mb/s', 62500, 50000],
    ['250KB/s', 12500, 50000],
    ['1MB/s@20ms', 20000, 20000],
    ['8b/s@1s', 1, 1000000],
    ['1GB/s@500us', 500000, 500],
    ['100B/s@2', 200, 2000000],
  ])('%s lets %d bytes pass every %d us', (text, bytesPerInterval, intervalUs) => {
    expect(parseRate(text, fail)).toEqual({ bytesPerInterval, intervalUs });
  });
});
