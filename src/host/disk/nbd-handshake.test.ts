import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { DiskAccess } from '../../devices/vbd/disk-access.js';
import { parseDisk } from '../../guest/disk-spec.js';
import { openDisk } from './open-disk.js';

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-handshake-'));
const servers: net.Server[] = [];
const programs: ChildProcess[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  for (const program of programs.splice(0)) program.kill('SIGKILL');
});
afterAll(() => rmSync(dir, { recursive: true }));

const open = (target: string) =>
  openDisk(
    parseDisk(`vdev=xvda,target=${target}`, (message) => {
      throw new Error(message);
    }),
  );
const refusal = (target: string): Promise<string> =>
  open(target).then(
    async (link) => {
      await link.close();
      return 'opened';
    },
    (error: Error) => error.message,
  );

/** The message of a refusal after a server fell silent. Time passes `seconds` seconds at most. */
async function late(target: string, seconds = 10): Promise<string> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    let words: string | undefined;
    refusal(target).then((said) => {
      words = said;
    });
    for (let i = 0; i <= 100 && words === undefined; i++) {
      // Both sides must have said all that they have to say before time goes on.
      for (let turns = 0; turns < 20; turns++) await new Promise((turn) => setImmediate(turn));
      await vi.advanceTimersByTimeAsync(seconds * 10);
    }
    for (let turns = 0; turns < 100 && words === undefined; turns++)
      await new Promise((turn) => setImmediate(turn));
    return words ?? 'it still waits';
  } finally {
    vi.useRealTimers();
  }
}

const u16 = (n: number): Buffer => Buffer.from([n >> 8, n & 0xff]);
const u32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(n);
  return bytes;
};
const u64 = (n: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(n);
  return bytes;
};
const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT')]);
const greeting = (flags = 3): Buffer => Buffer.concat([GREETING, u16(flags)]);
const reply = (option: number, type: number, data = Buffer.alloc(0)): Buffer =>
  Buffer.concat([u64(0x0003e889045565a9n), u32(option), u32(type), u32(data.length), data]);
const info = (bytes: bigint, flags = 1): Buffer =>
  reply(7, 3, Buffer.concat([u16(0), u64(bytes), u16(flags)]));
const block = (least: number): Buffer =>
  reply(7, 3, Buffer.concat([u16(3), u32(least), u32(4096), u32(1 << 25)]));
const ACK = reply(7, 1);
const UNSUPPORTED = reply(7, 0x8000_0001);

interface Behaviour {
  /** What it sends at once. Without it the server stays silent. */
  readonly greeting?: Buffer;
  /** Its answer to an option. The server does not answer an option for which this is undefined. */
  option?(option: number): Buffer | undefined;
  /** The contents of the disk that it serves after the handshake. */
  readonly contents?: Buffer;
  /** The number of bytes by which its answers to commands are too long. */
  readonly more?: number;
}

/** An NBD server that behaves as the test says. */
class Server {
  connections = 0;
  readonly options: number[] = [];
  private constructor(
    readonly socket: string,
    private readonly behaviour: Behaviour,
  ) {}

  static async listen(behaviour: Behaviour): Promise<Server> {
    const server = new Server(join(dir, `${n++}.sock`), behaviour);
    const listener = net.createServer((socket) => server.serve(socket));
    servers.push(listener);
    await new Promise<void>((done) => listener.listen(server.socket, done));
    return server;
  }
  get target(): string {
    return `nbd+unix:///x?socket=${this.socket}`;
  }

  private serve(socket: net.Socket): void {
    const { behaviour } = this;
    this.connections++;
    socket.on('error', () => undefined);
    if (behaviour.greeting !== undefined) socket.write(behaviour.greeting);
    let held: Buffer = Buffer.alloc(0);
    let state: 'flags' | 'options' | 'serving' = 'flags';
    socket.on('data', (chunk) => {
      held = Buffer.concat([held, chunk]);
      for (;;) {
        if (state === 'flags') {
          if (held.length < 4) return;
          held = held.subarray(4);
          state = 'options';
        } else if (state === 'options') {
          if (held.length < 16 || held.length < 16 + held.readUInt32BE(12)) return;
          const option = held.readUInt32BE(8);
          held = held.subarray(16 + held.readUInt32BE(12));
          this.options.push(option);
          const answer = behaviour.option?.(option);
          if (answer !== undefined) socket.write(answer);
          if (behaviour.contents !== undefined && (option === 1 || answer?.subarray(-20).equals(ACK)))
            state = 'serving';
        } else if (!this.command(socket, held, (left) => (held = left))) return;
      }
    });
  }

  private command(socket: net.Socket, held: Buffer, rest: (left: Buffer) => void): boolean {
    const { contents = Buffer.alloc(0), more = 0 } = this.behaviour;
    if (held.length < 28) return false;
    const type = held.readUInt16BE(6);
    const at = Number(held.readBigUInt64BE(16));
    const length = held.readUInt32BE(24);
    const payload = type === 1 ? length : 0;
    if (held.length < 28 + payload) return false;
    const head = (error: number): Buffer =>
      Buffer.concat([u32(0x67446698), u32(error), held.subarray(8, 16)]);
    if (at + length > contents.length) socket.write(head(22));
    else if (type === 0)
      socket.write(Buffer.concat([head(0), contents.subarray(at, at + length), Buffer.alloc(more, 0xee)]));
    else {
      if (type === 1) held.copy(contents, at, 28, 28 + length);
      socket.write(head(0));
    }
    rest(held.subarray(28 + payload));
    return true;
  }
}
let n = 0;

describe("an NBD server's handshake", () => {
  it.each<[string, Behaviour, string]>([
    ['a greeting', {}, 'its greeting'],
    ['half a greeting', { greeting: GREETING.subarray(0, 9) }, 'its greeting'],
    ['a word on the export', { greeting: greeting() }, 'its answer about export "x"'],
    [
      'half an answer',
      { greeting: greeting(), option: () => info(4096n).subarray(0, 25) },
      'its answer about export "x"',
    ],
    [
      'an end to its words',
      { greeting: greeting(), option: () => info(4096n) },
      'its answer about export "x"',
    ],
    ['the old answer', { greeting: greeting(0) }, 'its answer about export "x"'],
  ])('is given up when it does not send %s in time', async (_what, behaviour, words) => {
    const { target } = await Server.listen(behaviour);
    expect(await late(target)).toBe(`disk ${target}: the server does not send ${words} within 10 s`);
    expect(await late(`${target}&answer=3600`, 3600)).toContain('within 3600 s');
  });

  it('is given up if the server demands TLS', async () => {
    const server = await Server.listen({ greeting: greeting(), option: () => reply(5, 1) });
    const target = server.target.replace('nbd+', 'nbds+');
    expect(await late(target)).toContain('the server does not send TLS within 10 s');
    const silent = await Server.listen({ greeting: greeting() });
    expect(await late(silent.target.replace('nbd+', 'nbds+'))).toContain('its answer to STARTTLS');
    expect(await refusal(`${silent.target}&answer=never`)).toContain('answer=never is not a number');
  });

  it.each<[string, Behaviour, string]>([
    [
      'a size that is none',
      { greeting: greeting(), option: () => Buffer.concat([info(0xffff_ffff_ffff_ffffn), ACK]) },
      'says that the export has 1844674',
    ],
    [
      'an empty export',
      { greeting: greeting(), option: () => Buffer.concat([info(0n), ACK]) },
      'the export is empty',
    ],
    ['no size', { greeting: greeting(), option: () => ACK }, 'did not say how large the export is'],
    [
      'a block of 0 bytes',
      { greeting: greeting(), option: () => Buffer.concat([info(4096n), block(0), ACK]) },
      'smallest block is 0 bytes',
    ],
    [
      'a block of 3 bytes',
      { greeting: greeting(), option: () => Buffer.concat([info(4096n), block(3), ACK]) },
      'smallest block is 3 bytes',
    ],
    [
      'an answer of 4 GiB',
      {
        greeting: greeting(),
        option: () => Buffer.concat([u64(0x0003e889045565a9n), u32(7), u32(3), u32(0xffff_ffff)]),
      },
      "the server's answer to an option is malformed",
    ],
    [
      'words without end',
      { greeting: greeting(), option: () => Buffer.concat(new Array(2000).fill(info(4096n))) },
      'too many replies about the export',
    ],
  ])('is refused for %s', async (_what, behaviour, words) => {
    const server = await Server.listen(behaviour);
    expect(await refusal(server.target)).toContain(words);
  });

  it.each([
    ['does not know the newer option', 3, [7, 1]],
    ['says so of no options, and sends zeros', 0, [1]],
  ])('is done in the old way with a server that %s', async (_what, flags, options) => {
    const contents = Buffer.alloc(4096, 7);
    const old = (option: number): Buffer =>
      option === 1 ? Buffer.concat([u64(4096n), u16(1), Buffer.alloc(flags === 0 ? 124 : 0)]) : UNSUPPORTED;
    const server = await Server.listen({ greeting: greeting(flags), option: old, contents });
    const access = new DiskAccess(await open(server.target), 1, () => undefined);
    expect(server.options).toEqual(options);
    await access.read(0, 512, 1024);
    expect(access.buffer(0, 1024).every((byte) => byte === 7)).toBe(true);
    await access.close();
  });

  it('succeeds for a disk whose size is no multiple of a sector', async () => {
    const contents = Buffer.alloc(1000, 7);
    const server = await Server.listen({
      greeting: greeting(),
      option: () => Buffer.concat([info(1000n), ACK]),
      contents,
    });
    const log: string[] = [];
    const access = new DiskAccess(await open(server.target), 1, (line) => log.push(line));
    expect(access.link.geometry.sectors).toBe(2);
    access.buffer(0, 1024).fill(9);
    await access.read(0, 0, 1024);
    expect([...access.buffer(0, 1024).subarray(998, 1002)]).toEqual([7, 7, 0, 0]);
    access.buffer(0, 1024).fill(8, 0, 1000);
    await access.write(0, 0, 1024);
    expect(contents.every((byte) => byte === 8)).toBe(true);
    // Bytes behind the end of the disk cannot be written.
    access.buffer(0, 512).fill(5);
    await expect(access.write(0, 512, 512)).rejects.toThrow('ENOSPC');
    expect(log.at(-1)).toContain('the server answers ENOSPC, no space left on device');
    expect(contents.every((byte) => byte === 8)).toBe(true);
    await access.close();
  });

  it('ends the connection if the server answers with more bytes than were asked for', async () => {
    const contents = Buffer.alloc(4096, 7);
    const server = await Server.listen({
      greeting: greeting(),
      option: () => Buffer.concat([info(4096n), ACK]),
      contents,
      more: 16,
    });
    const log: string[] = [];
    const access = new DiskAccess(await open(server.target), 1, (line) => log.push(line));
    // The answer itself is accepted. The bytes behind it are not a reply.
    await access.read(0, 0, 512);
    for (const end = Date.now() + 5000; log.length === 0 && Date.now() < end; )
      await new Promise((d) => setTimeout(d, 5));
    expect(log[0]).toContain('the server sent something that is not a reply; requests wait');
    await access.link.close();
  });

  const HAS_NBDKIT = spawnSync('nbdkit', ['--version']).status === 0;
  it.skipIf(!HAS_NBDKIT).each([
    ['as of today', '0xffff'],
    ['without the fixed handshake', '0'],
  ])('is done with nbdkit, %s', async (_what, mask) => {
    const image = join(dir, 'kit.img');
    writeFileSync(image, Buffer.alloc(8192, 3));
    const socket = join(dir, `kit${mask}.sock`);
    programs.push(
      spawn('nbdkit', ['-f', `--mask-handshake=${mask}`, '-U', socket, 'file', image], { stdio: 'inherit' }),
    );
    for (const end = Date.now() + 10_000; !existsSync(socket) && Date.now() < end; )
      await new Promise((d) => setTimeout(d, 5));
    const access = new DiskAccess(await open(`nbd+unix:///?socket=${socket}`), 1, () => undefined);
    expect(access.link.geometry.sectors).toBe(16);
    access.buffer(0, 512).fill(4);
    await access.write(0, 512, 512);
    await access.flush();
    await access.close();
    expect([readFileSync(image)[0], readFileSync(image)[512]]).toEqual([3, 4]);
  });
});
