/** Targets: rings of disks and networks, with their grants, indices and nodes. */

import { plainFrame } from '../../src/net/frame.js';
import { BlockFront, FrontMemory, PAGE } from '../support/block-front.js';
import { MemoryLink } from '../support/memory-disk.js';
import { VifBench } from '../support/net-front.js';
import { ethernet } from '../support/packets.js';
import type { Choices } from './choices.js';
import type { Target } from './fuzz.js';

const SECTORS = 1024;
const PAGES = 64;
const HIDDEN = [40, 50] as const;
const READ_ONLY = [50, 60] as const;
const SLOT = 112;
const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await undefined;
};

/** A request that is often nearly valid. */
function blockRequest(
  c: Choices,
  set8: (at: number, v: number) => void,
  set32: (at: number, v: number) => void,
): void {
  const op = c.below(8);
  set8(0, op);
  set8(1, c.once(6) ? c.below(14) : 1 + c.below(3));
  set32(8, c.word());
  set32(12, c.word());
  set32(16, c.once(6) ? c.word() : c.below(SECTORS + 4));
  set32(20, c.once(20) ? c.word() : 0);
  if (op === 6) {
    set8(1, c.below(4));
    set8(2, c.below(32));
    set8(3, c.once(6) ? c.below(4) : 0);
    set32(28, c.below(PAGES + 4));
  }
  for (let i = 0; i < 3; i++) {
    set32(24 + 8 * i, c.once(8) ? c.word() : c.below(PAGES + 4));
    set8(28 + 8 * i, c.below(9));
    set8(29 + 8 * i, c.below(9));
  }
}

export function diskRing(): Target {
  const memory = new FrontMemory(PAGES);
  const { mem } = memory;
  const front = new BlockFront(memory, { queues: 2, order: 1 });
  const link = new MemoryLink(new Uint8Array(SECTORS * 512));
  const grantAll = (): void => {
    for (let i = 1; i < HIDDEN[0]; i++) memory.granted[i] = 1;
  };
  grantAll();
  for (let i = READ_ONLY[0]; i < READ_ONLY[1]; i++) memory.granted[i] = 3;
  const guarded = mem.bytes(HIDDEN[0] * PAGE, (READ_ONLY[1] - HIDDEN[0]) * PAGE).fill(0x5a);
  front.plug(link).connect();
  const nodes = [
    'ring-ref0',
    'ring-ref1',
    'ring-page-order',
    'event-channel',
    'multi-queue-num-queues',
    'protocol',
  ];
  return {
    name: 'rings of disks',
    files: /\/dist\/devices\/(vbd|xenbus)/,
    most: 600,
    async run(c) {
      for (let n = 1 + c.below(12); n > 0 && !c.over; n--) {
        const ring = front.rings[c.below(2)];
        switch (c.below(12)) {
          case 0:
            mem.setU32(ring.pages[0] + 4 * c.below(4), c.word());
            break;
          case 1:
            front.set(c.once(2) ? c.pick(nodes) : `queue-${c.below(3)}/${c.pick(nodes)}`, c.below(70));
            break;
          case 2:
            front.set('state', c.below(9));
            break;
          case 3:
            memory.granted[1 + c.below(HIDDEN[0] - 1)] ^= 1;
            break;
          case 4:
            link.failing = c.once(3) ? 5 : 0;
            break;
          case 5:
          case 6:
            for (let k = 1 + c.below(8); k > 0 && link.taken.length > 0; k--) link.finishOne(c.below(1000));
            break;
          default: {
            const produced = mem.getU32(ring.pages[0]);
            const count = 1 + c.below(4);
            for (let i = 0; i < count; i++) {
              const offset = 64 + ((produced + i) & (ring.slots - 1)) * SLOT;
              if ((offset & 4095) > PAGE - SLOT) continue;
              const at = ring.pages[offset >>> 12] + (offset & 4095);
              blockRequest(
                c,
                (o, v) => mem.setU8(at + o, v),
                (o, v) => mem.setU32(at + o, v),
              );
            }
            mem.setU32(ring.pages[0], (produced + count) >>> 0);
          }
        }
        memory.send(1 + c.below(3));
      }
      await settle();
      if (guarded.some((byte) => byte !== 0x5a)) throw new Error('a page that was not granted has changed');
      if (front.backState === 4) return;
      // Whatever it did, a front end that starts again is served.
      link.failing = 0;
      grantAll();
      front.set('state', 6);
      await settle();
      if (memory.mapped !== 0) throw new Error(`${memory.mapped} grants are in use after closing`);
      for (const node of ['ring-page-order', 'multi-queue-num-queues']) front.set(node, 1);
      front.set('state', 1);
      front.connect();
      if (front.backState !== 4) throw new Error(`the back end is in state ${front.backState}`);
    },
  };
}

export function netRing(): Target {
  let bench = new VifBench().connect();
  const frame = ethernet(0x88b5, new Array(60).fill(1));
  return {
    name: 'rings of networks',
    files: /\/dist\/devices\/(vif|xenbus)|\/dist\/net\//,
    most: 600,
    run(c) {
      const { access, link } = bench;
      const queue = bench.queues[0];
      const { mem } = access;
      for (let n = 1 + c.below(12); n > 0 && !c.over; n--) {
        switch (c.below(8)) {
          case 0:
            mem.setU32(c.pick([queue.tx, queue.rx]).pages[0] + 4 * c.below(4), c.word());
            break;
          case 1:
            queue.post(c.below(20));
            break;
          case 2:
            bench.arrive(plainFrame(frame));
            break;
          case 3:
            queue.extra({ type: c.below(6), u: Array.from({ length: 6 }, () => c.below(256)) }, c.once(2));
            break;
          case 4:
            link.writable = !c.once(3);
            bench.vif.drained();
            break;
          default:
            queue.slot(
              c.once(6) ? c.word() : c.below(access.pages + 2),
              c.once(4) ? c.word() & 0xffff : c.below(64),
              c.below(64),
              c.once(4) ? c.word() & 0xffff : c.below(200),
            );
        }
        access.handlers.get(queue.txPort)?.();
        queue.push();
      }
      if (link.sent.some((f) => f.bytes.length > 65_553))
        throw new Error('a frame is larger than any may be');
      link.sent = [];
      // A broken queue stands still, so another front end is made.
      if (bench.log.length > 0) bench = new VifBench().connect();
    },
  };
}
