import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockFront, FrontMemory, type FrontOptions, PAGE } from '../../../test/support/block-front.js';
import { MemoryLink } from '../../../test/support/memory-disk.js';

const READ = 0;
const WRITE = 1;
const BARRIER = 2;
const FLUSH = 3;
const SECTORS = 4096;

function setUp(options: FrontOptions = {}, geometry = {}, contents = new Uint8Array(SECTORS * 512)) {
  const memory = new FrontMemory(256);
  const front = new BlockFront(memory, options);
  const link = new MemoryLink(contents, geometry);
  front.plug(link).connect();
  for (let i = front.dataPage; i < 256; i++) memory.granted[i] = 1;
  const page = (i: number) => front.dataPage + i;
  const bytes = (i: number) => memory.mem.bytes(page(i) * PAGE, PAGE);
  const seg = (i: number, first = 0, last = 7) => ({ ref: page(i), first, last });
  const statuses = () => front.responses().map((r) => r.status);
  return { memory, front, link, page, bytes, seg, statuses, contents };
}

describe('a disk', () => {
  it('reads and writes granted pages in place, answers with the unchanged id, and marks the pages that it wrote', () => {
    for (const persistent of [true, false]) {
      const { memory, front, link, page, bytes, seg, contents } = setUp({ persistent });
      expect(front.backState).toBe(4);
      bytes(0).fill(0xa5);
      front.request(WRITE, 0xfedc_ba98_7654_3210n, 16, [seg(0, 1, 6)]);
      front.request(READ, 7n, 3, [seg(1, 0, 0), seg(2), seg(3, 7, 7)]);
      contents.fill(0x11, 3 * 512, 13 * 512);
      front.push();
      link.finish(2);
      expect(front.responses()).toEqual([
        { queue: 0, id: 0xfedc_ba98_7654_3210n, operation: WRITE, status: 0 },
        { queue: 0, id: 7n, operation: READ, status: 0 },
      ]);
      expect(contents.subarray(16 * 512, 22 * 512).every((b) => b === 0xa5)).toBe(true);
      expect(contents[22 * 512]).toBe(0);
      expect([
        bytes(1)[511],
        bytes(1)[512],
        bytes(2)[0],
        bytes(2)[4095],
        bytes(3)[3583],
        bytes(3)[3584],
      ]).toEqual([0x11, 0, 0x11, 0x11, 0, 0x11]);
      expect([1, 2, 3].map((i) => memory.touched[page(i)])).toEqual([1, 1, 1]);
      expect(memory.mapped).toBe(persistent ? 5 : 1);
      front.set('state', 6);
      expect(memory.mapped).toBe(0);
    }
  });

  it('takes indirect requests, rings of several pages and several rings', () => {
    const { front, link, page, bytes, seg, contents } = setUp({ queues: 3, order: 2 });
    for (let i = 0; i < 40; i++) bytes(i).fill(i + 1);
    for (let q = 0; q < 3; q++) {
      const segments = Array.from({ length: 40 }, (_, i) => seg(i));
      front.indirect(WRITE, BigInt(q), q * 400, segments, [page(50 + q)], q);
      for (let i = 0; i < 100; i++) front.request(READ, BigInt(1000 + i), 3000, [seg(60)], q);
      front.push(q);
    }
    link.finish(400);
    const answers = front.responses();
    expect(answers.length).toBe(303);
    expect(answers.filter((r) => r.operation === WRITE).map((r) => [r.queue, r.id, r.status])).toEqual([
      [0, 0n, 0],
      [1, 1n, 0],
      [2, 2n, 0],
    ]);
    for (let q = 0; q < 3; q++)
      for (let i = 0; i < 40; i++) expect(contents[(q * 400 + 8 * i) * 512 + 4095]).toBe(i + 1);
  });

  it('answers a bad request with an error and goes on', () => {
    const { memory, front, link, page, seg, statuses } = setUp({ persistent: false });
    memory.granted[page(9)] = 3;
    const bad: (() => void)[] = [
      () => front.request(READ, 1n, 0, []),
      () => front.request(WRITE, 1n, 0, [seg(0, 3, 2)]),
      () => front.request(READ, 1n, 0, [seg(0, 0, 8)]),
      () => front.request(READ, 1n, SECTORS - 7, [seg(0)]),
      () => front.request(READ, 1n, 2 ** 53, [seg(0)]),
      () => front.request(READ, 1n, 0, [seg(0), { ref: 0, first: 0, last: 0 }]),
      () => front.request(READ, 1n, 0, [{ ref: 0xffff_ffff, first: 0, last: 0 }]),
      () => front.request(READ, 1n, 0, [seg(9)]),
      () => front.indirect(READ, 1n, 0, [], [page(1)]),
      () => front.indirect(FLUSH, 1n, 0, [seg(0)], [page(1)]),
      () => front.indirect(READ, 1n, 0, [seg(0)], [0]),
      () => front.discard(1n, SECTORS, 1),
    ];
    for (const make of bad) {
      make();
      front.push();
      expect(statuses()).toEqual([-1]);
      expect(memory.mapped).toBe(1);
    }
    for (const make of [() => front.request(99, 1n, 0, [seg(0)]), () => front.discard(1n, 0, 8, 1)]) {
      make();
      front.push();
      expect(statuses()).toEqual([-2]);
    }
    expect(link.taken).toEqual([]);
    front.request(WRITE, 1n, 0, [seg(9)]);
    front.push();
    link.finish(1);
    expect(statuses()).toEqual([0]);
  });

  it('lets a barrier wait for the requests before it, and the requests after it wait for the barrier', () => {
    const { front, link, seg } = setUp();
    front.request(WRITE, 1n, 0, [seg(0)]);
    front.request(WRITE, 2n, 8, [seg(1)]);
    front.request(BARRIER, 3n, 16, [seg(2)]);
    front.request(WRITE, 4n, 24, [seg(3)]);
    front.request(FLUSH, 5n, 0, []);
    front.push();
    expect(link.taken.map((t) => t.sector)).toEqual([0, 8]);
    link.finishOne(1);
    link.finishOne(0);
    // A barrier becomes a flush, the write and another flush. The other requests follow after that.
    for (let i = 0; i < 3; i++) {
      expect(link.taken.length).toBe(1);
      link.finishOne(0);
    }
    expect(link.done.slice(2).map((o) => o.operation)).toEqual([2, 1, 2]);
    link.finish(2);
    expect(front.responses().map((r) => Number(r.id))).toEqual([2, 1, 3, 4, 5]);
  });

  it('publishes the properties of the disk, and holds requests to them', () => {
    const ro = setUp({ disk: '/disk,raw,xvda,r,devtype=cdrom' }, { readOnly: true, discard: undefined });
    expect([ro.front.node('info'), ro.front.node('mode'), ro.front.node('sectors')]).toEqual([
      '5',
      'r',
      '4096',
    ]);
    expect(ro.front.guest.exists(`/local/domain/0/backend/vbd/1/51712/feature-discard`)).toBe(false);
    ro.front.request(WRITE, 1n, 0, [ro.seg(0)]);
    ro.front.discard(2n, 0, 8);
    ro.front.push();
    expect(ro.statuses()).toEqual([-1, -2]);
    const big = setUp({}, { sectorBytes: 4096, physicalSectorBytes: 4096 });
    expect([big.front.node('sector-size'), big.front.node('physical-sector-size')]).toEqual(['4096', '4096']);
    big.front.request(READ, 1n, 4, [big.seg(0)]);
    big.front.request(READ, 2n, 8, [big.seg(0, 0, 3)]);
    big.front.request(READ, 3n, 8, [big.seg(0)]);
    big.front.push();
    big.link.finish(1);
    expect(big.statuses()).toEqual([-1, -1, 0]);
  });

  it('passes an error of the link on to the guest', () => {
    const { front, link, seg, statuses } = setUp();
    link.failing = 28;
    front.request(WRITE, 1n, 0, [seg(0)]);
    front.push();
    link.finish(1);
    expect(statuses()).toEqual([-1]);
    // A discard succeeds even if the link cannot discard.
    front.discard(2n, 0, 8);
    front.push();
    link.finish(1);
    expect(statuses()).toEqual([0]);
  });

  it('closes when ring indices are impossible, and connects again with the next front end', () => {
    const { memory, front, link, seg, statuses } = setUp();
    memory.mem.setU32(PAGE, 5000);
    memory.send(1);
    expect(front.backState).toBe(5);
    expect(front.log).toEqual(['vbd 51712: the front end wrote ring indices that cannot be']);
    expect(memory.mapped).toBe(0);
    front.set('state', 6);
    front.set('state', 1);
    front.connect();
    front.request(READ, 1n, 0, [seg(0)]);
    front.push();
    link.finish(1);
    expect(statuses()).toEqual([0]);
  });

  it('refuses an ABI that it does not speak, and rings and ports that do not exist', () => {
    for (const [name, value, says] of [
      ['protocol', 'x86_32-abi', 'protocol "x86_32-abi" is not supported (x86_64-abi)'],
      ['ring-ref', '0', 'ring-ref 0 cannot be mapped (-3)'],
      ['event-channel', '99', 'event-channel 99 cannot be bound (-22)'],
      ['multi-queue-num-queues', '5', 'multi-queue-num-queues is "5", not a number up to 4'],
      ['ring-page-order', '5', 'ring-page-order is "5", not a number up to 4'],
    ]) {
      const { memory, front } = setUp();
      front.set('state', 6);
      front.set('state', 1);
      front.set(name, value);
      front.set('state', 3);
      expect(front.log).toEqual([`vbd 51712: ${says}`]);
      expect([front.backState, memory.mapped]).toEqual([5, 0]);
    }
  });

  it('moves with an unfinished flush, whose sector is -1 as Linux sets it', async () => {
    const { front, link, contents } = setUp();
    front.request(FLUSH, 9n, -1, []);
    front.push();
    expect(link.taken.length).toBe(1);
    const next = new MemoryLink(contents);
    await front.move(next);
    next.finish(1);
    expect(front.responses()).toEqual([{ queue: 0, id: 9n, operation: FLUSH, status: 0 }]);
  });

  it('does not move to a link that is too small, or read-only where the disk is not', async () => {
    const { front, contents } = setUp();
    await front.bus.pause();
    expect(() => front.vbd.unfit(new MemoryLink(contents))).not.toThrow();
    expect(front.vbd.unfit(new MemoryLink(contents.subarray(512)))).toContain('4095 sectors');
    expect(front.vbd.unfit(new MemoryLink(contents, { readOnly: true }))).toContain('read-only');
    expect(front.vbd.unfit(new MemoryLink(contents, { sectorBytes: 4096 }))).toContain('4096');
  });

  it('holds requests back while its lock is released for a move, and takes the lock back if the move fails', async () => {
    const { front, link, seg, statuses } = setUp();
    front.request(WRITE, 1n, 0, [seg(0)]);
    front.push();
    await front.bus.pause();
    await front.vbd.release();
    front.bus.resume();
    expect(link.taken).toEqual([]);
    await new Promise((done) => setTimeout(done, 5));
    expect(link.taken.length).toBe(1);
    link.finish(1);
    expect(statuses()).toEqual([0]);
  });
});

describe('a disk whose link fails', () => {
  it('to release its lock takes the lock back after that attempt has ended, and not before', async () => {
    const { front, link, seg, statuses } = setUp();
    let fail: (error: Error) => void = () => undefined;
    link.release = () =>
      new Promise((_, reject) => {
        fail = reject;
      });
    let acquired = 0;
    link.acquire = async () => {
      acquired++;
    };
    await front.bus.pause();
    const released = expect(front.vbd.release()).rejects.toThrow('it hangs');
    front.bus.resume();
    front.request(WRITE, 1n, 0, [seg(0)]);
    front.push();
    await new Promise((done) => setTimeout(done, 5));
    expect([acquired, link.taken.length]).toEqual([0, 0]);
    fail(new Error('it hangs'));
    await released;
    await new Promise((done) => setTimeout(done, 5));
    expect([acquired, link.taken.length]).toEqual([1, 1]);
    link.finish(1);
    expect(statuses()).toEqual([0]);
  });

  it('to become quiet for a move keeps its granted pages, and answers each request once', async () => {
    const { front, link, seg, statuses } = setUp();
    front.request(WRITE, 1n, 0, [seg(0)]);
    front.push();
    expect(link.taken.length).toBe(1);
    link.quiesce = () => Promise.reject(new Error('a write is not answered'));
    await expect(front.bus.pause()).rejects.toThrow('not answered');
    front.bus.resume();
    expect(link.taken.length).toBe(1);
    link.finish(1);
    expect(statuses()).toEqual([0]);
  });

  it("to become quiet at a detach holds the guest's pages until it can", async () => {
    const { front, link, seg } = setUp();
    front.request(WRITE, 1n, 0, [seg(0)]);
    front.push();
    let quiet = false;
    link.quiesce = () =>
      new Promise((resolve, reject) =>
        setTimeout(() => (quiet ? resolve() : reject(new Error('a write is not answered'))), 1),
      );
    let gone = false;
    front.vbd.disconnect(() => {
      gone = true;
    });
    await new Promise((done) => setTimeout(done, 20));
    expect(gone).toBe(false);
    quiet = true;
    for (let i = 0; i < 1000 && !gone; i++) await new Promise((done) => setTimeout(done, 1));
    expect(gone).toBe(true);
  });
});

describe('requests in flight', () => {
  /**
   * A front end that writes tagged sectors and reads them back, at any depth. The link answers in any order
   * and the guest moves at any instant, also after the link has done requests that it could not answer any
   * more.
   */
  it('are each answered once and with the right data, over any number of moves', async () => {
    const action = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('issue' as const), n: fc.nat(0xffff) }) },
      { weight: 5, arbitrary: fc.record({ do: fc.constant('finish' as const), n: fc.nat(100) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('half' as const), n: fc.nat(100) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('move' as const), n: fc.nat(1) }) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { minLength: 20, maxLength: 120 }),
        fc.boolean(),
        fc.constantFrom(1, 2),
        async (actions, persistent, queues) => {
          const { memory, front, page, bytes, contents, ...rest } = setUp({ persistent, queues });
          let { link } = rest;
          const model = new Uint8Array(SECTORS / 8);
          /**
           * The requests that are open, by id. A page and a block of eight sectors belong to one request at a
           * time.
           */
          const open = new Map<bigint, { write: boolean; block: number; page: number; tag: number }>();
          const busy = new Set<number>();
          let next = 1n;
          const collect = () => {
            for (const r of front.responses()) {
              const o = open.get(r.id);
              if (o === undefined) throw new Error(`request ${r.id} was answered twice, or never asked`);
              expect(r.status).toBe(0);
              open.delete(r.id);
              busy.delete(o.block);
              if (o.write) model[o.block] = o.tag;
              else expect(bytes(o.page).every((b) => b === model[o.block])).toBe(true);
            }
          };
          for (const a of actions) {
            if (a.do === 'issue') {
              const block = a.n % 64;
              const q = a.n % queues;
              if (busy.has(block) || front.room(q) === 0) continue;
              const write = (a.n & 0x100) !== 0;
              const kind = !write
                ? READ
                : (a.n & 0xe00) === 0
                  ? BARRIER
                  : (a.n & 0xe00) === 0x200
                    ? FLUSH
                    : WRITE;
              const o = { write, block, page: block, tag: 1 + (a.n % 250) };
              bytes(block).fill(write ? o.tag : 0xff);
              busy.add(block);
              open.set(next, o);
              front.request(kind, next++, block * 8, [{ ref: page(block), first: 0, last: 7 }], q);
              front.push(q);
            } else if (a.do === 'finish' && link.taken.length > 0) link.finishOne(a.n);
            else if (a.do === 'half' && link.taken.length > 0) link.runOnly(a.n);
            else if (a.do === 'move') {
              // Some of the links after a move have fewer features.
              link = new MemoryLink(contents, a.n === 0 ? { discard: undefined } : {});
              await front.move(link);
            }
            collect();
          }
          for (let i = 0; open.size > 0 && i < 1000; i++) {
            if (link.taken.length > 0) link.finishOne(0);
            collect();
          }
          expect([...open.keys()]).toEqual([]);
          for (let block = 0; block < 64; block++) expect(contents[block * 4096 + 100]).toBe(model[block]);
          front.set('state', 6);
          expect(memory.mapped).toBe(0);
        },
      ),
      { numRuns: 120 },
    );
  });
});
