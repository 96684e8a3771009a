// The contents of the stores in the xenstore bench, and the requests; and, as a process of its own (fork), clients of a
// unix socket. It receives a LoadJob and returns a LoadResult.
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../scripts/lib/errors.js';
import * as op from '../../src/xen/xs-wire.js';

export type Operation = 'read' | 'write' | 'directory';

export interface LoadJob {
  /** The path of the server's socket. */
  readonly socket: string;
  readonly clients: number;
  /** How many requests a client has in flight at a time. */
  readonly inFlight: number;
  readonly operation: Operation | 'transaction' | 'fill';
  /** The number of requests or transactions of all clients together. */
  readonly count: number;
  /** The number of nodes in the store. */
  readonly nodes: number;
}

export type LoadResult = { readonly seconds: number } | { readonly error: string };

const LEAVES = [
  ...['name', 'vm', 'domid', 'memory/target', 'memory/static-max', 'cpu/0/availability', 'control/shutdown'],
  ...['store/port', 'store/ring-ref', 'console/port', 'console/ring-ref', 'console/limit', 'console/type'],
  ...['state', 'ring-ref', 'event-channel', 'protocol'].map((name) => `device/vbd/51712/${name}`),
  ...['state', 'tx-ring-ref', 'rx-ring-ref', 'event-channel', 'mac'].map((name) => `device/vif/0/${name}`),
];

/** Returns the paths of so many leaves, as domains have them. */
export function leaves(nodes: number): string[] {
  const all: string[] = [];
  for (let domid = 1; all.length < nodes; domid++)
    for (const leaf of LEAVES) all.push(`/local/domain/${domid}/${leaf}`);
  all.length = nodes;
  return all;
}

/** The folders that DIRECTORY reads: one of 8 names in each domain. */
export const folders = (nodes: number): string[] =>
  Array.from({ length: Math.floor(nodes / LEAVES.length) }, (_, i) => `/local/domain/${i + 1}`);

/** xorshift32: the same order in every run. */
export function* order(below: number): Generator<number, never> {
  for (let x = 0x9e3779b9; ; ) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    yield (x >>> 0) % below;
  }
}

/** An endless sequence of requests: type and payload. Transactions are not among them. */
export function* requests(
  operation: Operation,
  nodes: number,
): Generator<readonly [type: number, body: string], never> {
  const at = operation === 'directory' ? folders(nodes) : leaves(nodes);
  const type = { read: op.XS_READ, write: op.XS_WRITE, directory: op.XS_DIRECTORY }[operation];
  const next = order(at.length);
  for (let n = 0; ; n++) {
    const path = at[next.next().value];
    yield [type, type === op.XS_WRITE ? `${path}\0${n % 1000}` : `${path}\0`];
  }
}

function encode(type: number, txId: number, body: string): Buffer {
  const bytes = Buffer.alloc(16 + body.length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(txId, 8);
  bytes.writeUInt32LE(body.length, 12);
  bytes.write(body, 16, 'latin1');
  return bytes;
}

/** Opens a connection. xenstored keeps one client waiting; others are refused, and try again. */
async function connected(path: string): Promise<Socket> {
  for (let tries = 0; ; tries++) {
    const socket = connect(path);
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      socket.once('connect', () => resolve(undefined));
      socket.once('error', resolve);
    });
    if (error === undefined) return socket;
    if (error.code !== 'EAGAIN' || tries > 1000) throw error;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** One client. `next` returns the bytes to send after a reply, or undefined at the end of this client's work. */
function client(
  socket: Socket,
  begin: Buffer,
  next: (type: number, bytes: Buffer, end: number) => Buffer | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let rest: Buffer | undefined;
    socket.write(begin);
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => {
      let bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
      const out: Buffer[] = [];
      while (bytes.length >= 16 && bytes.length >= 16 + bytes.readUInt32LE(12)) {
        const type = bytes.readUInt32LE(0);
        const end = 16 + bytes.readUInt32LE(12);
        if (type === op.XS_ERROR) reject(new Error(bytes.toString('latin1', 16, end)));
        const request = next(type, bytes, end);
        if (request === undefined) {
          socket.destroy();
          resolve();
          return;
        }
        if (request.length > 0) out.push(request);
        bytes = bytes.subarray(end);
      }
      rest = bytes.length === 0 ? undefined : bytes;
      if (out.length > 0) socket.write(out.length === 1 ? out[0] : Buffer.concat(out));
    });
  });
}

/** Sends `count` requests, `inFlight` of them at a time. */
function asking(socket: Socket, inFlight: number, list: readonly Buffer[]): Promise<void> {
  let sent = inFlight;
  let answered = 0;
  const none = Buffer.alloc(0);
  return client(socket, Buffer.concat(list.slice(0, inFlight)), () =>
    ++answered === list.length ? undefined : (list[sent++] ?? none),
  );
}

/** Does `count` transactions, each of a read, a write and its end. */
function transacting(socket: Socket, count: number, paths: readonly string[]): Promise<void> {
  let done = 0;
  let id = 0;
  const start = encode(op.XS_TRANSACTION_START, 0, '\0');
  return client(socket, start, (type, bytes, end) => {
    const at = paths[done % paths.length];
    if (type === op.XS_TRANSACTION_START) {
      id = Number(bytes.toString('latin1', 16, end - 1));
      return encode(op.XS_READ, id, `${at}\0`);
    }
    if (type === op.XS_READ) return encode(op.XS_WRITE, id, `${at}\0${done}`);
    if (type === op.XS_WRITE) return encode(op.XS_TRANSACTION_END, id, 'T\0');
    return ++done === count ? undefined : start;
  });
}

async function load({ socket, clients, inFlight, operation, count, nodes }: LoadJob): Promise<number> {
  const each = Math.ceil(count / clients);
  const source = operation === 'transaction' || operation === 'fill' ? undefined : requests(operation, nodes);
  const work: (() => Promise<void>)[] = [];
  for (let i = 0; i < clients; i++) {
    const own = await connected(socket);
    if (operation === 'fill') {
      const list = leaves(nodes).map((at, n) => encode(op.XS_WRITE, 0, `${at}\0${n}`));
      work.push(() => asking(own, 64, list));
    } else if (source === undefined) {
      // Each client has a part of its own, so that they do not conflict.
      const part = Math.floor(nodes / clients);
      const paths = leaves(nodes).slice(i * part, (i + 1) * part);
      work.push(() => transacting(own, each, paths));
    } else {
      const list = Array.from({ length: each }, () => {
        const [type, body] = source.next().value;
        return encode(type, 0, body);
      });
      work.push(() => asking(own, inFlight, list));
    }
  }
  const start = process.hrtime.bigint();
  await Promise.all(work.map((run) => run()));
  return Number(process.hrtime.bigint() - start) / 1e9;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.on('message', (job: LoadJob) => {
    const answer = (result: LoadResult): void => void process.send?.(result);
    load(job).then(
      (seconds) => answer({ seconds }),
      (error: unknown) => answer({ error: messageOf(error) }),
    );
  });
