/**
 * Tests that the daemon verifies what another host, a saved file or a stream claims about a guest's identity and files.
 * Host A allows no files that others name; host B has one folder of images and one of kernels.
 */
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { savedConfigRecord } from '../../src/control/images/saved-config.js';
import { StreamWriter } from '../../src/migration/stream-writer.js';
import { connectOwnSocket, removeTree } from '../../src/os/foreign-directory.js';
import { decodeRaw, decodeRecord, encodeRecord, recordSize } from '../../src/records/record.js';
import { type Identity, initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';
import { TwoHosts, until } from '../migration/hosts.js';
import { Line } from './line.js';

const PORT = 17_860;
const KEY = 'cd'.repeat(32);

/** The header of a qcow2 image with a backing file. */
function qcow2(backing: string, format = 'raw'): Buffer {
  const head = Buffer.alloc(4096);
  head.write('QFI\xfb', 0, 'latin1');
  head.writeUInt32BE(2, 4);
  head.writeBigUInt64BE(1024n, 8);
  head.writeUInt32BE(backing.length, 16);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(1n << 20n, 24);
  // A header extension: the format of the backing file.
  head.writeUInt32BE(0xe2792aca, 72);
  head.writeUInt32BE(format.length, 76);
  head.write(format, 80);
  head.write(backing, 1024);
  return head;
}

describe('what others claim about a guest', () => {
  let hosts: TwoHosts;
  let mallory: Identity;
  let b: { port: number; certificate: string };
  let kernel: string;

  beforeAll(async () => {
    hosts = await TwoHosts.open(PORT, { images: {}, kernels: {} }, (root, name) => {
      for (const folder of ['kernels', 'images', 'elsewhere'])
        mkdirSync(join(root, folder), { recursive: true });
      return name === 'A'
        ? {}
        : {
            images: { '/srv/images': join(root, 'images') },
            kernels: { [join(root, 'kernels')]: join(root, 'kernels') },
          };
    });
    const { root } = hosts;
    kernel = join(root, 'kernels', 'vmlinuz');
    for (const file of [kernel, join(root, 'images', 'd'), join(root, 'elsewhere', 'secret')])
      writeFileSync(file, 'x', { mode: 0o600 });
    symlinkSync(join(root, 'elsewhere', 'secret'), join(root, 'images', 'link'));
    symlinkSync(join(root, 'elsewhere'), join(root, 'images', 'folder'));
    symlinkSync(join(root, 'elsewhere', 'secret'), join(root, 'kernels', 'link'));
    // Images with a backing file that is named by its path, through another image, or by a protocol that opens this
    // host's files.
    const secret = join(root, 'elsewhere', 'secret');
    for (const [name, backing, format] of [
      ['q', secret],
      ['q2', 'q', 'qcow2'],
      ['p', `file:${secret}`],
      ['good', 'd'],
    ])
      writeFileSync(join(root, 'images', name), qcow2(backing, format));
    mallory = await initIdentity(join(root, 'M'));
    trust(hosts.b.dir, 'M', mallory.certificate, '', ['move']);
    b = { port: hosts.b.port, certificate: loadIdentity(hosts.b.dir)!.certificate };
  });
  afterAll(() => hosts?.close());
  afterEach(async () => {
    await hosts.clear();
    for (const host of [hosts.a, hosts.b])
      await until('nothing is left', () => host.files('guests').length === 0 || undefined);
    expect(hosts.violations()).toEqual([]);
  });

  const disk = (target: string, format = 'raw') => ({
    kind: 'vbd',
    devid: 51_712,
    spec: JSON.stringify({
      target,
      format,
      vdev: 'xvda',
      virtualDevice: 51_712,
      readOnly: false,
      cdrom: false,
      backendType: '',
      discard: true,
      directIoSafe: false,
      trusted: true,
    }),
  });
  const configuration = (changes: object = {}) => ({
    name: 'guest',
    uuid: randomUUID(),
    vcpus: 1,
    memoryKib: 2048,
    maxMemoryKib: 2048,
    kernel,
    ramdisk: '',
    cmdline: '',
    onPoweroff: 'destroy',
    onReboot: 'restart',
    onCrash: 'destroy',
    clock: 'elapse',
    devices: [],
    more: { ticksPerTurn: 20, tickMs: 1, frames: 512 },
    ...changes,
  });
  /** The request to open a move of such a guest, with the changes in `changes`. */
  const opening = (config: ReturnType<typeof configuration>, changes: object = {}) => ({
    handover: randomUUID(),
    versions: [1, 2],
    name: config.name,
    uuid: config.uuid,
    vcpus: config.vcpus,
    memoryKib: config.maxMemoryKib,
    key: KEY,
    config,
    ...changes,
  });
  const connected = async (): Promise<Line> => {
    const line = await Line.open(b, mallory);
    line.say({ id: 1, do: 'hello', with: { versions: [1] } });
    await line.answer(1);
    return line;
  };

  it('names files of this host only where its configuration allows it, and is about one guest throughout', async () => {
    const outside = join(hosts.root, 'elsewhere', 'secret');
    const config = configuration();
    const wrong: [object, RegExp][] = [
      [opening(configuration({ kernel: outside })), /lies in no folder of "kernels"/],
      [opening(configuration({ ramdisk: '/etc/shadow' })), /lies in no folder of "kernels"/],
      [opening(configuration({ kernel: join(hosts.root, 'kernels', 'link') })), /leads to .*secret, out of/],
      [
        opening(configuration({ kernel: `${hosts.root}/kernels/../elsewhere/secret` })),
        /has "." or ".." in it/,
      ],
      [opening(configuration({ kernel: 'vmlinuz' })), /kernel: a whole path is expected/],
      [opening(configuration({ devices: [disk(outside)] })), /lies in no folder of "images"/],
      [opening(configuration({ devices: [disk(kernel)] })), /lies in no folder of "images"/],
      [opening(configuration({ devices: [disk('/srv/images/link')] })), /leads to .*secret, out of/],
      [opening(configuration({ devices: [disk('/srv/images/folder/secret')] })), /leads to .*secret, out of/],
      [opening(configuration({ devices: [disk('/srv/images/folder/new')] })), /leads to .*elsewhere, out of/],
      [opening(configuration({ devices: [disk('/srv/images/../elsewhere')] })), /has "." or ".." in it/],
      [
        opening(configuration({ devices: [disk('/srv/images/q', 'qcow2')] })),
        /leads to .*secret, which is in no folder/,
      ],
      [
        opening(configuration({ devices: [disk('/srv/images/q2', 'qcow2')] })),
        /leads to .*secret, which is in no folder/,
      ],
      [opening(configuration({ devices: [disk('/srv/images/p', 'qcow2')] })), /is behind a protocol/],
      [opening(configuration({ devices: [disk('d')] })), /lies in no folder of "images"/],
      [
        opening(configuration({ devices: [disk('nbd+unix:///x?socket=/run/secret.sock')] })),
        /secret.sock.*lies in no folder of "images"/,
      ],
      [opening(configuration({ devices: [disk('/srv/images/d'), disk('/srv/images/d')] })), /there twice/],
      [
        opening(configuration({ devices: [{ kind: 'vbd', devid: 1, spec: '{}' }] })),
        /config.devices.0: no settings of such a device/,
      ],
      [opening(configuration({ devices: 'none' })), /config.devices: a list is expected/],
      [
        opening(configuration({ onCrash: 'rm -rf' })),
        /config.onCrash: one of "destroy", "restart", "preserve"/,
      ],
      [
        opening(config, { name: 'other' }),
        /the configuration is of a guest with the name "guest"; "other" was/,
      ],
      [opening(config, { uuid: randomUUID() }), /the configuration is of a guest with the uuid/],
      [opening(config, { memoryKib: 4096 }), /of another size than was announced/],
      [opening(config, { vcpus: 2 }), /of another size than was announced/],
    ];
    const line = await connected();
    for (const [i, [request, message]] of wrong.entries()) {
      line.say({ id: 100 + i, do: 'moveOpen', with: request });
      expect((await line.answer(100 + i)).error?.message, JSON.stringify(request)).toMatch(message);
    }
    expect(hosts.b.files('guests')).toEqual([]);
    const right = [disk('/srv/images/d'), disk('/srv/images/good', 'qcow2')];
    for (const [i, one] of right.entries()) {
      line.say({
        id: 200 + i,
        do: 'moveOpen',
        with: opening(configuration({ name: `right${i}`, devices: [one] })),
      });
      expect((await line.answer(200 + i)).ok).toBeDefined();
    }
    line.socket.destroy();
  });

  it("must be the same in the head of its stream and in the configuration in the stream, or it is refused with the field's name", async () => {
    const config = configuration();
    const encode = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
    const other = randomUUID();
    const streams: [object, object, object, RegExp][] = [
      [
        config,
        { name: 'impostor' },
        config,
        /the stream's head is of a guest with the name "impostor"; "guest" was/,
      ],
      [config, { uuid: other }, config, new RegExp(`head is of a guest with the uuid "${other}"`)],
      // If the source sends no configuration, the one in the stream is treated as foreign.
      [
        {},
        {},
        { ...config, name: 'impostor' },
        /the stream's configuration is of a guest with the name "impostor"/,
      ],
    ];
    for (const [announced, head, carried, message] of streams) {
      const line = await connected();
      const request = opening(config, { config: 'name' in announced ? announced : undefined });
      line.say({ id: 2, do: 'moveOpen', with: request });
      const { port } = (await line.answer(2)).ok as { port: number };
      const data = tls.connect({
        host: '127.0.0.1',
        port,
        minVersion: 'TLSv1.3',
        ciphers: 'TLS_AES_128_GCM_SHA256',
        pskCallback: () => ({ psk: Buffer.from(KEY, 'hex'), identity: request.handover }),
        checkServerIdentity: () => undefined,
      });
      data.on('error', () => {});
      await new Promise((done) => data.once('secureConnect', done));
      const writer = new StreamWriter(async (bytes) => void data.write(bytes));
      await writer.begin(
        { frames: 512, name: config.name, uuid: config.uuid, version: 2, ...head },
        encode(carried),
      );
      const refused = await until('a refusal', () => /"message":"refused"[^\n]*/.exec(line.text)?.[0]);
      expect(refused.replaceAll('\\"', '"')).toMatch(message);
      data.destroy();
      line.socket.destroy();
    }
  });

  it('is accepted with a move where allowed, holds for a restart, and is refused where the folder is missing', async () => {
    const stays = await hosts.guest(`kernel = "${join(hosts.root, 'elsewhere', 'secret')}"`);
    await expect(hosts.a.ask('migrate', { guest: stays.name, host: 'B' })).rejects.toThrow(
      /lies in no folder of "kernels" in this host's configuration.*goes on here/,
    );
    await hosts.a.ask('destroy', { guest: stays.name });
    const { name } = await hosts.guest(`kernel = "${kernel}"`);
    await hosts.a.ask('migrate', { guest: name, host: 'B' });
    expect((await hosts.settled(name)).on).toBe('B');
    const { domid } = await hosts.b.ask('domain', { guest: name });
    await hosts.b.ask('reboot', { guest: name });
    await until('a new domain', async () => {
      const [row] = await hosts.b.list();
      return row !== undefined && row.domid !== domid && /^(r-|-b)/.test(row.state) ? row : undefined;
    });
    await expect(hosts.b.ask('migrate', { guest: name, host: 'A' })).rejects.toThrow(
      /lies in no folder of "kernels"/,
    );
    // A kernel that has been replaced by a link is not opened at the next restart.
    rmSync(kernel);
    symlinkSync(join(hosts.root, 'elsewhere', 'secret'), kernel);
    await hosts.b.ask('reboot', { guest: name });
    await until(
      'a refusal in the log',
      () => /leads to .*secret, out of/.exec(readFileSync(join(hosts.b.dir, 'daemon.log'), 'utf8'))?.[0],
    );
    rmSync(kernel);
    writeFileSync(kernel, 'x');
  });

  it('in a file is accepted by the daemon that wrote it and by no other, nor if it was altered', async () => {
    const { name } = await hosts.guest(`kernel = "${join(hosts.root, 'elsewhere', 'secret')}"`);
    const image = join(hosts.root, 'image');
    await hosts.a.ask('save', { guest: name, path: image });
    const saved = readFileSync(image);
    const size = recordSize(saved);
    const head = decodeRecord(savedConfigRecord, decodeRaw(saved.subarray(0, size)));
    const file = (...parts: Uint8Array[]): string => {
      writeFileSync(join(hosts.root, 'other-image'), Buffer.concat(parts));
      return join(hosts.root, 'other-image');
    };
    const altered = (changes: object, seal = head.seal): Uint8Array =>
      encodeRecord(savedConfigRecord, {
        ...head,
        config: JSON.stringify({ ...JSON.parse(head.config), ...changes }),
        seal,
      });
    const stream = saved.subarray(size);
    const refusals: [string, RegExp][] = [
      [file(altered({ kernel: '/etc/shadow' }), stream), /shadow.*lies in no folder of "kernels"/],
    ];
    for (const [path, message] of refusals)
      await expect(hosts.a.ask('restore', { path })).rejects.toThrow(message);
    for (const seal of [new Uint8Array(0), new Uint8Array(32)])
      await expect(hosts.a.ask('restore', { path: file(altered({}, seal), stream) })).rejects.toThrow(
        /lies in no folder of "kernels"/,
      );
    await expect(hosts.a.ask('restore', { path: file(altered({ name: 'x' }), stream) })).rejects.toThrow(
      /head is of a guest with the name "g\d+"; "x" was announced/,
    );
    // As version 0.1 wrote it: only the stream.
    await expect(hosts.a.ask('restore', { path: file(stream) })).rejects.toThrow(
      /lies in no folder of "kernels"/,
    );
    await expect(hosts.b.ask('restore', { path: image })).rejects.toThrow(/lies in no folder of "kernels"/);
    expect([hosts.a.files('guests'), hosts.b.files('guests')]).toEqual([[], []]);
    expect(await hosts.a.ask('restore', { path: image })).toMatchObject({ name });
    await hosts.a.ask('destroy', { guest: name });
    const allowed = await hosts.guest(`kernel = "${kernel}"`);
    await hosts.a.ask('save', { guest: allowed.name, path: image });
    const plain = readFileSync(image);
    expect(await hosts.b.ask('restore', { path: file(plain.subarray(recordSize(plain))) })).toMatchObject({
      name: allowed.name,
    });
  });
});

describe("in a directory that belongs to a guest's user", () => {
  let root: string;
  beforeAll(async () => {
    root = join(process.env.TMPDIR ?? '/tmp', `stillpoint-directory-${process.pid}`);
    mkdirSync(root);
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  it('a socket is used only if it is the expected one, and no link or file', async () => {
    const server = net.createServer((socket) => socket.end('here'));
    await new Promise<void>((done) => server.listen(join(root, 'real.sock'), done));
    symlinkSync('real.sock', join(root, 'link.sock'));
    writeFileSync(join(root, 'file.sock'), '');
    try {
      const socket = await connectOwnSocket(join(root, 'real.sock'));
      expect(String((await new Promise((done) => socket!.once('data', done))) as Buffer)).toBe('here');
      for (const name of ['link.sock', 'file.sock', 'none.sock'])
        expect(await connectOwnSocket(join(root, name)), name).toBeUndefined();
    } finally {
      server.close();
    }
  });

  it('everything is removed, and nothing that a link leads to', () => {
    mkdirSync(join(root, 'guest', 'a', 'b'), { recursive: true });
    mkdirSync(join(root, 'kept'));
    writeFileSync(join(root, 'kept', 'file'), 'x', { mode: 0o600 });
    for (const place of ['guest', 'guest/a/b']) {
      symlinkSync(join(root, 'kept'), join(root, place, 'folder'));
      symlinkSync(join(root, 'kept', 'file'), join(root, place, 'link'));
      writeFileSync(Buffer.concat([Buffer.from(join(root, place, 'n')), Buffer.of(0xff, 0x0a)]), '');
    }
    chmodSync(join(root, 'guest', 'a'), 0o711);
    removeTree(join(root, 'guest'));
    removeTree(join(root, 'guest'));
    expect([existsSync(join(root, 'guest')), readFileSync(join(root, 'kept', 'file'), 'utf8')]).toEqual([
      false,
      'x',
    ]);
    let deep = join(root, 'deep');
    for (let i = 0; i < 40; i++) deep = join(deep, 'd');
    mkdirSync(deep, { recursive: true });
    expect(() => removeTree(join(root, 'deep'))).toThrow('nested too deep');
  });
});
