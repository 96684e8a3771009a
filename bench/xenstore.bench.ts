// npm run bench -- xenstore [--json]: requests to a xenstore of 1 000 and of 100 000 nodes.
//   In process: the synchronous client, by processor time (on a quiet machine the same as real time), on nodes from
//   the whole store, and on the same 1 000 nodes whatever else is there: the first includes the effect of the
//   processor's caches, the second is the cost of the store itself. A bare Map with the same paths is measured for
//   comparison.
//   Ring: a guest's shared page, one request at a time, up to its answer, by processor time.
//   Socket: clients in another process; 1 client and 16 clients that wait for each answer, and 16 clients with 8
//   requests in flight. Each is run on `stillpoint xenstored` and on Debian's own xenstored and oxenstored,
//   alternating in the same run. A transaction is four requests: start, read, write, end.
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LinearMemory } from '../src/xen/memory.js';
import * as op from '../src/xen/xs-wire.js';
import { RingTransport } from '../src/xenstore/ring/ring.js';
import type { LocalClient } from '../src/xenstore/server/local.js';
import { XenstoreServer } from '../src/xenstore/server/server.js';
import { encodeMessage } from '../src/xenstore/wire/message.js';
import { type Contender, interleave, median, report } from './harness.js';
import { folders, type LoadJob, type LoadResult, leaves, order, requests } from './lib/xenstore-load.js';
import { cpuSeconds, type Server, startServers, stopped } from './lib/xenstore-servers.js';

const SIZES = [1_000, 100_000];
const DOMID = 7;
const OPERATIONS = ['read', 'write', 'directory', 'transaction'] as const;
const { XenstoreDomainInterface: Page, XENSTORE_RING_SIZE } = op;
const count = (n: number): string => n.toLocaleString('en-US').replaceAll(',', ' ');

/** Seconds of this process's processor time that `run` takes. */
function cpu(run: () => void): number {
  const start = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
}

interface World {
  readonly server: XenstoreServer;
  readonly xs: LocalClient;
  readonly paths: readonly string[];
  readonly folders: readonly string[];
  /** Indices of paths: of all paths, and of a thousand. */
  readonly picked: Uint32Array;
  readonly some: Uint32Array;
  readonly map: Map<string, string>;
}

function world(nodes: number): World {
  const server = new XenstoreServer();
  const xs = server.local();
  // All nodes inherit these permissions: the guest on the ring may use them.
  xs.setPermissions('/', ['n0', `b${DOMID}`]);
  const paths = leaves(nodes);
  paths.forEach((path, i) => {
    xs.write(path, String(i));
  });
  const source = order(nodes);
  const picked = Uint32Array.from({ length: 1 << 18 }, () => source.next().value);
  const some = Uint32Array.from(picked, (_, i) => (i % 1000) * Math.floor(paths.length / 1000));
  return {
    server,
    xs,
    paths,
    folders: folders(nodes),
    picked,
    some,
    map: new Map(paths.map((p) => [p, p.slice(-5)])),
  };
}
const worlds = new Map(SIZES.map((nodes) => [nodes, world(nodes)]));

/** Times `times` operations in a store of each size, alternating, and prints the rates. */
async function compareSizes(
  where: string,
  operation: string,
  times: number,
  contenders: Readonly<Record<number, Contender>>,
  rounds: number,
): Promise<void> {
  const taken = await interleave(contenders, rounds);
  const rates = SIZES.map((nodes) => times / taken[nodes].median);
  SIZES.forEach((nodes, i) => {
    const extra: Record<string, number> =
      i === 0 ? {} : { 'times the cost at 1 000 nodes': rates[0] / rates[1] };
    report('xenstore', `${where}, ${count(nodes)} nodes: ${operation}`, rates[i], 'per second', extra);
  });
}

// --- in process ---

let seen = 0;
const values = Array.from({ length: 1000 }, (_, i) => String(i));
/** How often each is done, and what is done; the argument is a number from 0 to the number of picked paths. */
type InProcess = readonly [times: number, act: (w: World, i: number) => unknown];
const IN_PROCESS: Readonly<Record<string, InProcess>> = {
  read: [400_000, ({ xs, paths, picked }, i) => void (seen += xs.read(paths[picked[i]]).length)],
  write: [200_000, ({ xs, paths, picked }, i) => xs.write(paths[picked[i]], values[i % 1000])],
  'read, the same 1 000 nodes': [
    400_000,
    ({ xs, paths, some }, i) => void (seen += xs.read(paths[some[i]]).length),
  ],
  'write, the same 1 000 nodes': [
    200_000,
    ({ xs, paths, some }, i) => xs.write(paths[some[i]], values[i % 1000]),
  ],
  directory: [
    200_000,
    ({ xs, folders, picked }, i) => void (seen += xs.list(folders[picked[i] % folders.length]).length),
  ],
  transaction: [
    50_000,
    ({ xs, paths, picked }, i) => xs.transact((t) => t.write(paths[picked[i]], t.read(paths[picked[i]]))),
  ],
  'bare Map: get': [
    400_000,
    ({ map, paths, picked }, i) => void (seen += map.get(paths[picked[i]])?.length ?? 0),
  ],
  'bare Map: set': [200_000, ({ map, paths, picked }, i) => map.set(paths[picked[i]], values[i % 1000])],
};
for (const [operation, [times, act]] of Object.entries(IN_PROCESS)) {
  const contenders: Record<number, Contender> = {};
  for (const [nodes, w] of worlds) {
    // Each operation has its own copy of the loop, so that none is compiled for all of them at once.
    const loop = new Function(
      ...['w', 'act', 'n', 'mask', 'for (let i = 0; i < n; i++) act(w, i & mask);'],
    ) as (w: World, act: InProcess[1], n: number, mask: number) => void;
    contenders[nodes] = () => cpu(() => loop(w, act, times, w.picked.length - 1));
  }
  await compareSizes('in process', operation, times, contenders, 7);
}

// --- ring ---

/** A guest that puts a request on its ring, notifies, and takes the whole answer. */
class Guest {
  at = 4096;
  mem = new LinearMemory(new ArrayBuffer(3 * 4096));
  answer = Buffer.alloc(XENSTORE_RING_SIZE);
  private readonly ring: RingTransport;
  constructor(server: XenstoreServer) {
    this.ring = new RingTransport(server, server.introduce(DOMID), this.mem, this.at, { notify() {} }, true);
  }
  /** Returns the length of the answer, which is in `answer`. */
  ask(bytes: Uint8Array): number {
    const { mem, at, answer } = this;
    const prod = mem.getU32(at + Page.req_prod);
    for (let i = 0; i < bytes.length; i++)
      mem.u8[at + Page.req + ((prod + i) & (XENSTORE_RING_SIZE - 1))] = bytes[i];
    mem.setU32(at + Page.req_prod, prod + bytes.length);
    this.ring.pump();
    const end = mem.getU32(at + Page.rsp_prod);
    let length = 0;
    for (let i = mem.getU32(at + Page.rsp_cons); i !== end; i = (i + 1) >>> 0)
      answer[length++] = mem.u8[at + Page.rsp + (i & (XENSTORE_RING_SIZE - 1))];
    mem.setU32(at + Page.rsp_cons, end);
    if (answer.readUInt32LE(0) === op.XS_ERROR) throw new Error(answer.toString('latin1', 16, length));
    return length;
  }
}
const START = encodeMessage({ type: op.XS_TRANSACTION_START, reqId: 1, txId: 0, body: '\0' });
function transact(guest: Guest, path: string): void {
  const end = guest.ask(START);
  const txId = Number(guest.answer.toString('latin1', 16, end - 1));
  const inside = (type: number, body: string) => guest.ask(encodeMessage({ type, reqId: 1, txId, body }));
  inside(op.XS_READ, `${path}\0`);
  inside(op.XS_WRITE, `${path}\0x`);
  inside(op.XS_TRANSACTION_END, 'T\0');
}
const guests = new Map<World, Guest>();
for (const operation of OPERATIONS) {
  const contenders: Record<number, Contender> = {};
  const times = operation === 'transaction' ? 5_000 : 20_000;
  for (const [nodes, w] of worlds) {
    const guest = guests.get(w) ?? new Guest(w.server);
    guests.set(w, guest);
    const source = operation === 'transaction' ? undefined : requests(operation, nodes);
    const list: Uint8Array[] = [];
    while (source !== undefined && list.length < times) {
      const [type, body] = source.next().value;
      list.push(encodeMessage({ type, reqId: 1, txId: 0, body }));
    }
    contenders[nodes] = () =>
      cpu(() => {
        if (source === undefined) for (let i = 0; i < times; i++) transact(guest, w.paths[w.picked[i]]);
        for (const bytes of list) guest.ask(bytes);
      });
  }
  await compareSizes(`ring`, operation, times, contenders, 7);
}

// --- socket ---

const dir = mkdtempSync(join(tmpdir(), 'xenstore-bench-'));
const loader = fork(new URL('lib/xenstore-load.js', import.meta.url));
const load = (job: LoadJob) =>
  new Promise<number>((resolve, reject) => {
    loader.once('message', (result: LoadResult) =>
      'seconds' in result ? resolve(result.seconds) : reject(new Error(result.error)),
    );
    loader.send(job);
  });
const SHAPES = [
  ['1 client', { clients: 1, inFlight: 1 }, 3_000],
  ['16 clients', { clients: 16, inFlight: 1 }, 12_000],
  ['16 clients, 8 requests each on their way', { clients: 16, inFlight: 8 }, 40_000],
] as const;
const servers: Server[] = [];
try {
  await startServers(dir, servers);
  for (const nodes of SIZES) {
    // The same stores grow: the first 1 000 nodes are a part of the 100 000.
    for (const { socket } of servers)
      await load({ socket, clients: 1, inFlight: 64, operation: 'fill', count: nodes, nodes });
    for (const [shape, form, requestCount] of SHAPES) {
      for (const operation of OPERATIONS) {
        if (operation === 'transaction' && form.inFlight > 1) continue;
        const times = operation === 'transaction' ? requestCount / 4 : requestCount;
        const contenders: Record<string, Contender> = {};
        const used: Record<string, number[]> = {};
        for (const server of servers) {
          used[server.name] = [];
          contenders[server.name] = async () => {
            const before = cpuSeconds(server);
            const seconds = await load({ socket: server.socket, ...form, operation, count: times, nodes });
            used[server.name].push((cpuSeconds(server) - before) / times);
            return seconds;
          };
        }
        const taken = await interleave(contenders, 5);
        const own = taken[servers[0].name].median;
        const extra: Record<string, number> = {
          'us of processor time each': median(used[servers[0].name]) * 1e6,
        };
        for (const { name } of servers.slice(1)) {
          extra[`times ${name}'s rate`] = taken[name].median / own;
          extra[`${name}'s us of processor time each`] = median(used[name]) * 1e6;
        }
        report(
          'xenstore',
          `socket, ${count(nodes)} nodes, ${shape}: ${operation}`,
          times / own,
          'per second',
          extra,
        );
      }
    }
  }
} finally {
  loader.disconnect();
  await Promise.all(servers.map(stopped));
  rmSync(dir, { recursive: true, force: true });
}
