import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { parseDisk } from '../../src/guest/disk-spec.js';
import { openDisk } from '../../src/host/disk/open-disk.js';
import { BlockFront, FrontMemory, PAGE } from '../support/block-front.js';
import { testPort } from '../support/ports.js';

const HAS_QEMU = spawnSync('qemu-nbd', ['--version']).status === 0;
const HAS_OPENSSL = spawnSync('openssl', ['version']).status === 0;
const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const MIB = 1024 * 1024;

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-nbd-test-'));
const servers: ChildProcess[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.kill('SIGKILL');
});
afterAll(() => rmSync(dir, { recursive: true }));

const turn = (ms = 5) => new Promise((done) => setTimeout(done, ms));

/** QEMU's own server, which continues when a client disconnects. */
async function serve(image: string, socket: string, ...args: string[]): Promise<ChildProcess> {
  rmSync(socket, { force: true });
  const server = spawn('qemu-nbd', [`--socket=${socket}`, '-t', '--format=raw', ...args, image], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  servers.push(server);
  while (!listens(socket)) await turn();
  return server;
}
/** True once the socket not only is bound but accepts connections (__SO_ACCEPTCON in /proc/net/unix). */
const listens = (socket: string): boolean =>
  readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .some((line) => line.endsWith(` ${socket}`) && line.split(/\s+/)[3] === '00010000');
const kill = (server: ChildProcess): Promise<void> =>
  new Promise((done) => {
    server.once('exit', () => done());
    server.kill('SIGKILL');
  });

async function plug(target: string) {
  const spec = parseDisk(`vdev=xvda,target=${target}`, (m) => {
    throw new Error(m);
  });
  const link = await openDisk(spec);
  const memory = new FrontMemory(128);
  const front = new BlockFront(memory).plug(link).connect();
  memory.granted.fill(1, front.dataPage);
  const bytes = (i: number) => memory.mem.bytes((front.dataPage + i) * PAGE, PAGE);
  const answers = async (count: number, seconds = 20) => {
    const all = [];
    for (const end = Date.now() + seconds * 1000; all.length < count && Date.now() < end; await turn())
      all.push(...front.responses());
    return all.map((r) => r.status);
  };
  const request = (operation: number, id: number, sector: number, ...pages: number[]) =>
    front.request(
      operation,
      BigInt(id),
      sector,
      pages.map((p) => ({ ref: front.dataPage + p, first: 0, last: 7 })),
    );
  return { link, front, bytes, answers, request };
}

describe.skipIf(!HAS_QEMU)("a disk behind QEMU's NBD server", () => {
  it('is written and read with many requests at once, and discarded', async () => {
    const image = join(dir, 'a.img');
    writeFileSync(image, Buffer.alloc(MIB, 7));
    const socket = join(dir, 'a.sock');
    await serve(image, socket, '--discard=unmap');
    const { link, front, bytes, answers, request } = await plug(`nbd+unix:///?socket=${socket}`);
    expect([front.node('sectors'), front.node('feature-discard')]).toEqual(['2048', '1']);
    for (let i = 0; i < 30; i++) bytes(i).fill(i + 1);
    for (let i = 0; i < 15; i++) request(WRITE, i, 16 * i, 2 * i, 2 * i + 1);
    front.push();
    expect(await answers(15)).toEqual(new Array(15).fill(0));
    request(FLUSH, 1, 0);
    request(READ, 2, 8, 40, 41, 42);
    request(READ, 3, 2040, 43);
    front.push();
    expect(await answers(3)).toEqual([0, 0, 0]);
    expect([40, 41, 42, 43].map((i) => [bytes(i)[0], bytes(i)[4095]])).toEqual([
      [2, 2],
      [3, 3],
      [4, 4],
      [7, 7],
    ]);
    front.discard(4n, 0, 240);
    front.push();
    expect(await answers(1)).toEqual([0]);
    await front.bus.pause();
    await link.close();
    expect(readFileSync(image)[0]).toBe(0);
    expect(readFileSync(image)[MIB - 1]).toBe(7);
  });

  it.skipIf(!HAS_OPENSSL)(
    'is reached over TCP with TLS, and neither without TLS nor if its certificate is not trusted',
    async () => {
      const image = join(dir, 'tls.img');
      writeFileSync(image, Buffer.alloc(MIB, 9));
      const pki = join(dir, 'pki');
      mkdirSync(pki);
      const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: pki, stdio: 'pipe' });
      const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
      openssl('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', '/CN=test CA');
      openssl('req', ...key, '-keyout', 'server-key.pem', '-out', 'server.csr', '-subj', '/CN=localhost');
      writeFileSync(join(pki, 'names'), 'subjectAltName=DNS:localhost\n');
      const signed = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-extfile', 'names'];
      openssl('x509', '-req', '-in', 'server.csr', ...signed, '-out', 'server-cert.pem');
      const port = testPort(17_690);
      const server = spawn(
        'qemu-nbd',
        [
          `--port=${port}`,
          '--bind=127.0.0.1',
          '-t',
          '--format=raw',
          '--export-name=one',
          '--object',
          `tls-creds-x509,id=tls0,dir=${pki},endpoint=server,verify-peer=no`,
          '--tls-creds=tls0',
          image,
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      );
      servers.push(server);
      let error = '';
      for (let i = 0; i < 200; i++) {
        const opened = await plug(`nbds://localhost:${port}/one?tls-certificates=${pki}`).catch(
          (e: Error) => {
            error = e.message;
          },
        );
        if (opened === undefined) {
          await turn(50);
          continue;
        }
        const { link, front, bytes, answers, request } = opened;
        request(READ, 1, 0, 0, 1, 2);
        front.push();
        expect(await answers(1)).toEqual([0]);
        expect(bytes(2)[4095]).toBe(9);
        await front.bus.pause();
        await link.close();
        error = '';
        break;
      }
      expect(error).toBe('');
      await expect(plug(`nbd://localhost:${port}/one`)).rejects.toThrow('refuses export "one"');
      await expect(plug(`nbds://localhost:${port}/one`)).rejects.toThrow('TLS');
    },
  );

  it('continues when the server was killed and returns: requests wait, and each is answered', async () => {
    const image = join(dir, 'b.img');
    writeFileSync(image, Buffer.alloc(MIB));
    const socket = join(dir, 'b.sock');
    let server = await serve(image, socket);
    const { link, front, bytes, answers, request } = await plug(`nbd+unix:///?socket=${socket}`);
    bytes(0).fill(0xaa);
    request(WRITE, 1, 0, 0);
    front.push();
    expect(await answers(1)).toEqual([0]);
    await kill(server);
    for (let i = 0; i < 8; i++) request(READ, 10 + i, 0, 20 + i);
    front.push();
    expect(await answers(1, 0.5)).toEqual([]);
    server = await serve(image, socket);
    expect(await answers(8)).toEqual(new Array(8).fill(0));
    expect([20, 27].map((i) => bytes(i)[100])).toEqual([0xaa, 0xaa]);
    expect(front.log.some((l) => l.includes('requests wait'))).toBe(true);
    expect(front.log.at(-1)).toContain('the server is back');
    await front.bus.pause();
    await link.close();
  });

  it('fails requests when the server is away for longer than configured, and serves again when it returns', async () => {
    const image = join(dir, 'c.img');
    writeFileSync(image, Buffer.alloc(MIB));
    const socket = join(dir, 'c.sock');
    const server = await serve(image, socket);
    const { link, front, answers, request } = await plug(`nbd+unix:///?socket=${socket}&lost=0.3`);
    await kill(server);
    request(READ, 1, 0, 0);
    front.push();
    expect(await answers(1)).toEqual([-1]);
    request(READ, 2, 0, 0);
    front.push();
    expect(await answers(1)).toEqual([-1]);
    await serve(image, socket);
    let status = -1;
    for (let i = 0; i < 100 && status !== 0; i++) {
      await turn(50);
      request(READ, 3, 0, 0);
      front.push();
      [status] = await answers(1);
    }
    expect(status).toBe(0);
    await front.bus.pause();
    await link.close();
  });

  it('reports what is wrong with an address, a server and an export', async () => {
    const open = (target: string) =>
      plug(target).then(
        () => 'opened',
        (error: Error) => error.message,
      );
    expect(await open('nbd+unix:///x')).toContain('socket= is missing');
    expect(await open('nbd://h/x?nonsense=1')).toContain('parameter nonsense is unknown');
    expect(await open(`nbd+unix:///?socket=${dir}/none`)).toContain('ENOENT');
    const image = join(dir, 'd.img');
    writeFileSync(image, Buffer.alloc(MIB));
    const socket = join(dir, 'd.sock');
    await serve(image, socket, '--read-only');
    expect(await open(`nbd+unix:///other?socket=${socket}`)).toContain('the server refuses export "other"');
    expect(await open(`nbd+unix:///?socket=${socket}`)).toContain('exports it read-only');
    const broken = join(dir, 'broken.qcow2');
    writeFileSync(broken, 'no image');
    const qcow2 = parseDisk(`format=qcow2,vdev=xvda,target=${broken}`, () => {
      throw new Error();
    });
    await expect(openDisk(qcow2)).rejects.toThrow(/disk .*broken\.qcow2.*not in qcow2 format/);
  });

  it('moves with a qcow2 image from one QEMU process to the next', async () => {
    const image = join(dir, 'e.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
    const spec = parseDisk(`format=qcow2,vdev=xvda,target=${image}`, () => {
      throw new Error();
    });
    const first = await openDisk(spec);
    await expect(openDisk(spec)).rejects.toThrow('lock');
    const memory = new FrontMemory(64);
    const front = new BlockFront(memory).plug(first).connect();
    memory.granted.fill(1, front.dataPage);
    memory.mem.bytes(front.dataPage * PAGE, PAGE).fill(0x77);
    front.request(WRITE, 1n, 0, [{ ref: front.dataPage, first: 0, last: 7 }]);
    front.push();
    await front.bus.pause();
    await front.vbd.release();
    const second = await openDisk(spec);
    await front.move(second);
    front.request(READ, 2n, 0, [{ ref: front.dataPage + 1, first: 0, last: 7 }]);
    front.push();
    const all = [];
    for (let i = 0; i < 2000 && all.length < 2; i++, await turn()) all.push(...front.responses());
    expect(all.map((r) => [Number(r.id), r.status])).toEqual([
      [1, 0],
      [2, 0],
    ]);
    expect(memory.mem.bytes((front.dataPage + 1) * PAGE, PAGE).every((b) => b === 0x77)).toBe(true);
    await front.bus.pause();
    await second.close();
    await first.close();
  });
});
