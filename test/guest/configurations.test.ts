/**
 * Configurations in the forms that people have (test/guest/configurations): each starts a guest, which gets what the
 * file says, or is refused with words that name the key or show the line.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { wasmEngine } from '../../src/engine/engines.js';
import { guestSpec, readGuestConfig } from '../../src/guest-process/device-requests.js';
import { Guest } from '../../src/helper/guest.js';
import { TestHost } from '../support/guest-on-host.js';
import { programKernel } from '../support/program-kernel.js';

const DIRECTORY = new URL('configurations/', import.meta.url);
/** Prints its command line, whose address is at 128 of start_info. */
const KERNEL = programKernel('lea rsi, [r15+128]\ncall print\njmp poweroff');

interface Started {
  readonly cmdline?: string;
  readonly memory: number;
  readonly disks?: number;
  readonly vifs?: number;
  readonly warnings?: readonly RegExp[];
}

const STARTED: Readonly<Record<string, Started>> = {
  '01-dhcp': {
    cmdline: 'root=/dev/xvda1 ro',
    memory: 128,
    vifs: 1,
    warnings: [/:6:1: dhcp is ignored.*ip=dhcp/],
  },
  '02-paravirt-cmdline': { cmdline: 'root=/dev/xvda1 console=hvc0', memory: 394, vifs: 1 },
  '02b-script-vif-bridge': { cmdline: 'root=/dev/xvda1 console=hvc0', memory: 394, vifs: 1 },
  '03-pvfb': { memory: 394, warnings: [/:9:1: vfb has no effect here/] },
  '05-file-0x301-two-ips': { memory: 160, disks: 1, vifs: 1 },
  '07-trailing-comma': { cmdline: 'root=/dev/xvda ro 4', memory: 160, disks: 1, vifs: 1 },
  '08-bom-crlf-latin1': { memory: 64 },
  '08b-crlf-latin1': { cmdline: 'a=A b=A', memory: 160 },
  '09-coredump-destroy': {
    memory: 160,
  },
  '09b-rename-restart': {
    memory: 160,
    warnings: [
      /:4:1: on_crash is set again further down/,
      /:5:1: on_crash = "rename-restart" is as "restart" here/,
    ],
  },
  '11-xend-leftovers': {
    memory: 160,
    warnings: [
      /:5:1: serial has no effect/,
      /:6:1: on_xend_start is ignored/,
      /:7:1: on_xend_stop is ignored/,
    ],
  },
  '12-pygrub': { memory: 128, disks: 1, vifs: 1 },
  // As many networks as this take more grants and nodes than Xen allows by default.
  '15-vif-100': { cmdline: expect.stringContaining('grep -c eth'), memory: 512, vifs: 100 },
  '16-create-swallows-warnings': {
    cmdline: 'console=hvc0',
    memory: 130,
    warnings: [/:4:1: memory is set again further down/, /:6:1: cpus has no effect/],
  },
};

const REFUSED: Readonly<Record<string, RegExp>> = {
  '04-python': /:2:5: .* looks like Python, .*: def number\(value\):$/,
  '04b-python-tail': /:1:8: .* looks like Python, .*: import os$/,
  '14-dup-mac': /:4:34: vif 'mac=00:16:3e:00:00:01': .* has the same address. Give one of them another mac/,
};

function read(name: string) {
  const text = readFileSync(new URL(`${name}.cfg`, DIRECTORY), 'utf8');
  return readGuestConfig(
    text.replace('@KERNEL@', '/kernel').replace('@RAMDISK@', '/ramdisk').replace('@DISKS@', '/d'),
    `${name}.cfg`,
    '/',
  );
}

test('every configuration of the folder starts or is refused', () => {
  const names = readdirSync(DIRECTORY).map((name) => name.replace(/[.]cfg$/, ''));
  expect(names.sort()).toEqual([...Object.keys(STARTED), ...Object.keys(REFUSED)].sort());
});

test.each(Object.entries(REFUSED))('%s is refused: %s', (name, words) => {
  expect(() => read(name)).toThrow(words);
});

test.each(Object.entries(STARTED))('%s starts a guest that has what it says', async (name, said) => {
  const config = read(name);
  const { cmdline = '', memory, disks = 0, vifs = 0, warnings = [] } = said;
  expect(config.more.warnings).toEqual(warnings.map((one) => expect.stringMatching(one)));
  const spec = guestSpec(config, KERNEL, config.ramdisk === '' ? undefined : new Uint8Array(4096));
  let out = '';
  const guest = await Guest.powerOn({ ...spec, nsPerInstruction: 1 }, new TestHost('A', 5), {
    engine: wasmEngine(),
    console: (bytes) => {
      out += Buffer.from(bytes).toString('latin1');
      return true;
    },
    log: () => undefined,
    wake: () => undefined,
  });
  guest.start();
  let result = guest.run(1e9);
  while (result.state === 'running') result = guest.run(1e9);
  expect(result).toMatchObject({ state: 'shutdown', reason: 'poweroff' });
  guest.console.service();
  expect(out).toEqual(cmdline);
  expect(guest.container).toMatchObject({ memoryMib: memory, name: config.name });
  const kinds = guest.devices.configs.map(({ kind }) => kind);
  expect(kinds.sort()).toEqual([...Array(disks).fill('vbd'), ...Array(vifs).fill('vif')]);
  await guest.detach();
});
