// npm run bench -- net [--json]: what a guest's network costs.
//   Without a guest: the back end alone, driven by a front end in the same thread: packets a second, and bytes a
//   second of large packets. Each is compared with the same work without the back end (the front end's own share).
//   The switch: frames between two of its ports over unix sockets.
//   In the guest (Debian's kernel): an HTTP download and the time of a ping, by its own clock and programs, through
//   our switch and passt. This part needs .cache/guests and passt (Debian), and is left out where they are not
//   available.

import { type Frame, GSO_TCPV4, NEEDS_CSUM, plainFrame } from '../src/net/frame.js';
import { type Extra, type FrontQueue, VifBench } from '../test/support/net-front.js';
import { pattern, tcp, udp } from '../test/support/packets.js';
import { report } from './harness.js';
import { benchGuest, benchSwitch } from './lib/bench-net.js';

const ROUND = 200;
const seconds = Number(process.env.STILLPOINT_BENCH_SECONDS ?? 2);

interface Rate {
  /** Units a second. */
  readonly rate: number;
  /** The front end's share of the time, 0 to 1. */
  readonly share: number;
  /** Units a second of the back end, without the front end's share. */
  readonly alone: number;
}

/** Measures how many `units` a second `work` does, and the same for `without`, interleaved. */
function rate(units: number, work: () => void, without: () => void): Rate {
  const spent = [0, 0];
  const done = [0, 0];
  for (let round = 0; spent[0] + spent[1] < seconds * 1000; round++) {
    for (const [i, f] of [work, without].entries()) {
      const begin = performance.now();
      for (let n = 0; n < 20; n++) f();
      if (round > 2) {
        spent[i] += performance.now() - begin;
        done[i] += 20 * units;
      }
    }
  }
  const both = (spent[0] / done[0]) * 1000;
  const front = (spent[1] / done[1]) * 1000;
  return { rate: 1e6 / both, share: front / both, alone: 1e6 / (both - front) };
}
const show = (name: string, { rate: r, share, alone }: Rate, factor = 1, unit = 'packets/s'): void =>
  report('net', name, r * factor, unit, { 'back end alone': alone * factor, "front end's share": share });

const OUT: readonly (readonly [string, Uint8Array, number, Extra[]])[] = [
  ['60 bytes', udp(4, pattern(18)), 0, []],
  ['1500 bytes, checksum left to do', tcp(4, pattern(1448)), 3, []],
  [
    '64 KiB with segments to cut',
    tcp(4, pattern(64_000)),
    3,
    [{ type: 1, u: [1448 & 255, 1448 >> 8, 1, 0, 0, 0] }],
  ],
];
for (const [name, packet, flags, extras] of OUT) {
  for (const offloads of [true, false]) {
    const b = new VifBench({ offloads }).connect();
    let sent = 0;
    b.link.send = () => void sent++;
    const { queue } = b;
    const slots = Math.ceil(packet.length / 4096) + extras.length;
    const round = Math.min(ROUND, Math.floor(200 / slots));
    const idle = new VifBench({ offloads });
    const fill = (q: FrontQueue): void => {
      for (let i = 0; i < round; i++) q.put(packet, flags, extras);
    };
    const r = rate(
      round,
      () => {
        fill(queue);
        queue.push();
        queue.reap();
      },
      () => {
        fill(idle.queue);
        idle.queue.tx.rsp_cons = idle.queue.tx.req_prod_pvt;
      },
    );
    const where = offloads ? 'link with offloads' : 'plain link';
    show(`out of the guest, ${name}, ${where}`, r);
    if (slots > 2) show(`out of the guest, ${name}, ${where}`, r, packet.length / 1e6, 'MB/s');
  }
}
const IN: readonly (readonly [string, Frame])[] = [
  ['60 bytes', plainFrame(udp(4, pattern(18)))],
  ['1500 bytes', plainFrame(tcp(4, pattern(1448)))],
  [
    '64 KiB whole',
    {
      ...plainFrame(tcp(4, pattern(64_000))),
      flags: NEEDS_CSUM,
      csumStart: 34,
      csumOffset: 16,
      gsoType: GSO_TCPV4,
      gsoSize: 1448,
    },
  ],
];
for (const [name, frame] of IN) {
  const b = new VifBench().connect();
  const { queue } = b;
  const slots = Math.ceil(frame.bytes.length / 4096) + (frame.gsoType ? 1 : 0);
  const round = Math.min(ROUND, Math.floor(250 / slots));
  const idle = new VifBench();
  const r = rate(
    round,
    () => {
      queue.post(round * slots);
      for (let i = 0; i < round; i++) b.vif.receive(frame);
      b.vif.received();
      queue.rx.rsp_cons = queue.rx.req_prod_pvt;
    },
    () => {
      idle.queue.post(round * slots);
      idle.queue.rx.rsp_cons = idle.queue.rx.req_prod_pvt;
    },
  );
  show(`into the guest, ${name}`, r);
  if (slots > 2) show(`into the guest, ${name}`, r, frame.bytes.length / 1e6, 'MB/s');
}

await benchSwitch();
await benchGuest();
process.exit(0);
