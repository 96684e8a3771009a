import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { smallKernelElf } from '../demo/small-kernel.js';
import { unpackKernel } from '../guest/bzimage.js';
import { readGuestConfig } from '../guest-process/device-requests.js';
import { VERSION } from '../protocol/generated/version.js';
import type { VifSettings } from '../protocol/guest-config.js';
import { initIdentity, loadIdentity, trust } from '../transport/identity.js';
import { writeCpio } from './cpio.js';
import { madeMac, unwrapFile, wrapFiles } from './wrap-files.js';

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-wrap-'));
afterAll(() => rmSync(dir, { recursive: true }));
const at = (name: string) => join(dir, name);
const SOURCE = 'name = "g"\nkernel = "small"\nramdisk = "disk"\nmemory = 16\n';
const APPLIANCE = Buffer.from(writeCpio([{ path: 'init', data: 'appliance' }]));

beforeAll(() => {
  writeFileSync(at('small'), smallKernelElf());
  writeFileSync(at('disk'), 'a ramdisk');
  writeFileSync(at('vmlinux'), 'a kernel');
  writeFileSync(at('initrd'), APPLIANCE);
  writeFileSync(at('version'), JSON.stringify({ stillpoint: VERSION, kernel: '6.1', node: '24.0.0' }));
  writeFileSync(at('g.cfg'), SOURCE);
});

test("beside the guest's file lie the helper's and one initrd, the appliance's with the guest's files after it", async () => {
  const result = await wrapFiles({ file: at('g.cfg'), appliance: dir });
  expect(result).toMatchObject({ config: at('g.helper.cfg'), initrd: at('g.helper.initrd'), warnings: [] });
  const config = readFileSync(result.config, 'utf8');
  expect(config).toContain(`kernel = "${at('vmlinux')}"\nramdisk = "${at('g.helper.initrd')}"\n`);
  expect(config).toContain(`memory = ${result.memoryMib}\n`);
  const initrd = readFileSync(result.initrd);
  expect(initrd.subarray(0, APPLIANCE.length).equals(APPLIANCE)).toBe(true);
  const guest = initrd.subarray(APPLIANCE.length).toString('latin1');
  for (const name of ['guest/guest.cfg', 'guest/kernel', 'guest/ramdisk'])
    expect(guest).toContain(`${name}\0`);
  expect(guest).toContain('a ramdisk');
  const kernel = initrd.subarray(initrd.indexOf(Buffer.of(0x1f, 0x8b, 8), APPLIANCE.length));
  expect(Buffer.from(await unpackKernel(kernel.subarray(0, gzipSync(smallKernelElf()).length)))).toEqual(
    Buffer.from(smallKernelElf()),
  );
  expect(unwrapFile(result.config, at('back.cfg')).toString()).toBe(SOURCE);
  expect(readFileSync(at('back.cfg'), 'utf8')).toBe(SOURCE);
  // It may be made again, and nothing is left of the making.
  await wrapFiles({ file: at('g.cfg'), appliance: dir, overheadMib: 300 });
  expect(readdirSync(dir).filter((name) => name.endsWith('.part'))).toEqual([]);
});

test('a guest that boots from its own disk has the image of GRUB in its initrd, in which its settings can be written', async () => {
  vi.stubEnv('STILLPOINT_BOOT_LOADER', at('small'));
  writeFileSync(at('own.cfg'), 'name = "own"\nbootloader = "pygrub"\nextra = "ro"\n');
  const { initrd } = await wrapFiles({ file: at('own.cfg'), appliance: dir });
  vi.unstubAllEnvs();
  const archive = readFileSync(initrd);
  expect(archive.includes(Buffer.from(smallKernelElf()))).toBe(true);
  expect(archive.toString('latin1')).toContain(
    'bootloader = "pygrub"\nbootloader_args = [\n  "--args=ro",\n]\n',
  );
});

test('a helper that is to listen has its identity in its initrd, which nobody else may read', async () => {
  const identity = at('mover');
  const moves = { address: '10.0.0.7', prefix: 24, port: 7777, vif: 'bridge=own', identity };
  const request = { file: at('g.cfg'), appliance: dir, output: at('moving.cfg'), moves };
  await expect(wrapFiles(request)).rejects.toThrow(
    `${identity} has no identity ("stillpoint host --dir ${identity} init" makes one)`,
  );
  expect(existsSync(at('moving.cfg'))).toBe(false);
  await initIdentity(identity);
  trust(identity, 'other', loadIdentity(identity)!.certificate, '10.0.0.8:7777', ['move']);
  const { initrd } = await wrapFiles(request);
  expect(statSync(initrd).mode & 0o777).toBe(0o600);
  const archive = readFileSync(initrd).toString('latin1');
  for (const name of [
    'settings.json',
    'identity/key.pem',
    'identity/cert.pem',
    'identity/trusted/other.json',
  ])
    expect(archive).toContain(`guest/move/${name}\0`);
  expect(archive).toContain(`kernel = "${at('small')}"`);
  const plain = await wrapFiles({ file: at('g.cfg'), appliance: dir });
  expect(readFileSync(plain.initrd).toString('latin1')).not.toContain('guest/move');
});

test('an appliance of another version of Stillpoint is said', async () => {
  const other = at('other');
  mkdirSync(other);
  for (const name of ['vmlinux', 'initrd']) copyFileSync(at(name), join(other, name));
  writeFileSync(join(other, 'version'), '{"stillpoint":"0.0.9","kernel":"6.1","node":"24.0.0"}\n');
  const wrapped = () => wrapFiles({ file: at('g.cfg'), appliance: other });
  expect((await wrapped()).warnings).toEqual([
    `the appliance in ${other} has Stillpoint 0.0.9, and this is ${VERSION}`,
  ]);
  rmSync(join(other, 'version'));
  expect((await wrapped()).warnings[0]).toMatch(/has Stillpoint an unknown version/);
});

test('a file that wrap has not made is not written over', async () => {
  const request = { file: at('g.cfg'), appliance: dir, output: at('g.cfg') };
  await expect(wrapFiles(request)).rejects.toThrow('is there already, and stillpoint wrap has not made it');
  expect(readFileSync(at('g.cfg'), 'utf8')).toBe(SOURCE);
});

test('a kernel that no PV guest has, a file that is missing and a missing appliance are said before anything is written', async () => {
  writeFileSync(at('bad.cfg'), SOURCE.replace('small', 'disk'));
  writeFileSync(at('none.cfg'), SOURCE.replace('"disk"', '"no-disk"'));
  await expect(wrapFiles({ file: at('bad.cfg'), appliance: dir })).rejects.toThrow(
    /bad[.]cfg: kernel disk: /,
  );
  await expect(wrapFiles({ file: at('none.cfg'), appliance: dir })).rejects.toThrow(
    /ramdisk no-disk: ENOENT/,
  );
  await expect(wrapFiles({ file: at('g.cfg'), appliance: at('no') })).rejects.toThrow(
    /--appliance says where/,
  );
  expect(readdirSync(dir).filter((name) => /^(bad|none)[.]helper/.test(name))).toEqual([]);
});

test('a vif without an address keeps the one that a daemon would give it', () => {
  const uuid = '12345678-1234-1234-1234-123456789abc';
  const { devices } = readGuestConfig(`${SOURCE}uuid = "${uuid}"\nvif = ['', 'devid=7']\n`, 'g.cfg', dir);
  const macs = devices.map(({ spec }) => (JSON.parse(spec) as VifSettings).mac);
  expect(macs).toEqual([madeMac(uuid, 0), madeMac(uuid, 7)]);
});
