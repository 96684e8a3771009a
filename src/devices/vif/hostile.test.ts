import { expect, test } from 'vitest';
import { VifBench } from '../../../test/support/net-front.js';
import { udp } from '../../../test/support/packets.js';
import { plainFrame } from '../../net/frame.js';
import { finishFrame } from '../../net/segment.js';
import { Sring } from '../../xen/ring.js';

const REQUESTS = 1_000_000;
const PAGE = 4096;

/** xorshift32, so that the requests are the same every time. */
function random(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

test('a million requests of random contents, indices and grants do no harm, and a good packet still passes', () => {
  const r = random(20261125);
  let b = new VifBench({ offloads: false, queues: 1 });
  const count = { requests: 0, sent: 0, connections: 0 };
  const watch = (): void => {
    b.connect();
    count.connections++;
    // Every packet that leaves must be fit for a link without offloads.
    b.link.send = (f) => {
      count.sent++;
      if (f.bytes.length < 14 || f.bytes.length > 65_535)
        throw new Error(`a frame of ${f.bytes.length} bytes left`);
    };
  };
  watch();
  const arriving = plainFrame(udp(4, new Uint8Array(2000)));
  while (count.requests < REQUESTS) {
    const { mem } = b.access;
    const { queue } = b;
    const [tx] = queue.tx.pages;
    const [rx] = queue.rx.pages;
    const produced = mem.getU32(tx + Sring.rsp_prod);
    const more = 1 + r(256);
    for (let i = 0; i < more; i++) {
      const at = tx + 64 + 12 * ((produced + i) & 255);
      if (r(2) === 0) for (let j = 0; j < 12; j += 4) mem.setU32(at + j, r(2 ** 32));
      else {
        mem.setU32(at, r(600));
        mem.setU32(at + 4, (r(5000) & 0xffff) | (r(16) << 16));
        mem.setU32(at + 8, r(65_536) | (r(3000) << 16));
      }
    }
    const headers = (queue.txPages + r(256)) * PAGE;
    for (let j = 0; j < 64; j += 4) mem.setU32(headers + j, r(2 ** 32));
    mem.u8[headers + 12] = 0x08;
    mem.u8[headers + 13] = 0;
    mem.u8[headers + 14] = 0x45 + r(3);
    for (let i = 0; i < 8; i++) mem.setU32(rx + 64 + 4 * r(512), r(2 ** 32));
    mem.setU32(rx + Sring.req_prod, mem.getU32(rx + Sring.rsp_prod) + r(40));
    mem.setU32(tx + Sring.req_prod, produced + (r(1000) === 0 ? r(2 ** 32) : more));
    count.requests += more;
    b.access.handlers.get(queue.txPort)?.();
    for (let i = r(4); i > 0; i--) b.arrive(arriving);
    b.access.handlers.get(queue.rxPort)?.();
    expect(b.access.pinned).toBe(2);
    if (b.log.length > 0) {
      b.vif.disconnect(() => {});
      expect(b.access.pinned).toBe(0);
      b = new VifBench({ offloads: false });
      watch();
    }
  }
  expect(count.connections).toBeGreaterThan(3);
  expect(count.sent).toBeGreaterThan(1000);
  b = new VifBench().connect();
  b.queue.send(udp(4, new Uint8Array(100)));
  finishFrame(b.link.sent[0], (f) => expect(f.bytes.length).toBe(142));
}, 120_000);
