import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addAddress, addDefaultRoute, answered, deleteLink, netlink, newMacvtap, setUp } from './netlink.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe('a message to the kernel about an interface', () => {
  it('has the layout of struct nlmsghdr, struct ifinfomsg and nested attributes', () => {
    expect(hex(setUp(7))).toBe(
      '20000000' +
        '1000' +
        '0500' +
        '00000000' +
        '00000000' +
        '00000000' +
        '07000000' +
        '01000000' +
        '01000000',
    );
    expect(hex(deleteLink(7)).slice(8, 12)).toBe('1100');
    const made = hex(newMacvtap('sp-eth0', 7, '00:16:3e:01:02:03'));
    expect(made.slice(8, 16)).toBe('1000' + '0506');
    // IFLA_IFNAME, IFLA_LINK, IFLA_ADDRESS, and IFLA_LINKINFO with the kind and the mode of passing all through.
    expect(made.slice(64)).toBe(
      '0c000300' +
        '73702d6574683000' +
        '08000500' +
        '07000000' +
        '0a000100' +
        '00163e010203' +
        '0000' +
        '1c001200' +
        '0c000100' +
        '6d61637674617000' +
        '0c000200' +
        '08000100' +
        '08000000',
    );
  });

  it('has the layout of struct ifaddrmsg for an address, and of struct rtmsg for a route', () => {
    expect(hex(addAddress(7, '10.0.0.7', 24))).toBe(
      '28000000' +
        '1400' +
        '0506' +
        '00000000' +
        '00000000' +
        // AF_INET, 24 bits, no flags, scope of the universe; IFA_LOCAL and IFA_ADDRESS.
        '02180000' +
        '07000000' +
        '08000200' +
        '0a000007' +
        '08000100' +
        '0a000007',
    );
    expect(hex(addDefaultRoute(7, '10.0.0.1'))).toBe(
      '2c000000' +
        '1800' +
        '0506' +
        '00000000' +
        '00000000' +
        // AF_INET to anywhere; RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST; RTA_GATEWAY and RTA_OIF.
        '02000000' +
        'fe030001' +
        '00000000' +
        '08000500' +
        '0a000001' +
        '08000400' +
        '07000000',
    );
  });

  it('is answered with an errno, or with nothing that is understood', () => {
    const answer = new Uint8Array(36);
    const view = new DataView(answer.buffer);
    view.setUint16(4, 2, true);
    view.setInt32(16, -17, true);
    expect(answered(answer)).toBe(17);
    expect(() => answered(answer.subarray(0, 8))).toThrow('netlink');
    expect(() => answered(new Uint8Array(36))).toThrow('netlink');
  });

  it('reaches the kernel, which knows no such interface', async () => {
    expect(await netlink(deleteLink(0x7fff_fff0))).not.toBe(0);
  });
});

const DUMMY = 'sp-test-nl';
const ip = (...args: string[]) => spawnSync('ip', args).status === 0;
const able = process.getuid?.() === 0 && ip('link', 'add', DUMMY, 'type', 'dummy');

describe.skipIf(!able)('an interface on another', () => {
  it('is made, has its address, and is removed', async () => {
    const net = '/sys/class/net';
    try {
      const index = Number(readFileSync(`${net}/${DUMMY}/ifindex`, 'latin1'));
      expect(await netlink(addAddress(index, '192.0.2.7', 24))).toBe(0);
      expect(await netlink(addAddress(index, '192.0.2.7', 24))).toBe(17);
      expect(await netlink(setUp(index))).toBe(0);
      const errno = await netlink(newMacvtap('sp-test-up', index, '00:16:3e:01:02:03'));
      // A kernel without macvtap says EOPNOTSUPP.
      if (errno === 95) return;
      expect(errno).toBe(0);
      expect(readFileSync(`${net}/sp-test-up/address`, 'latin1').trim()).toBe('00:16:3e:01:02:03');
      expect(await netlink(newMacvtap('sp-test-up', index, '00:16:3e:01:02:03'))).toBe(17);
      expect(await netlink(deleteLink(Number(readFileSync(`${net}/sp-test-up/ifindex`, 'latin1'))))).toBe(0);
    } finally {
      ip('link', 'del', DUMMY);
    }
  });
});
