/**
 * The surroundings of a twin: a disk and a network whose answers come at virtual times that depend only on the requests
 * and their times, whichever host the guest is on by then. Requests in flight during a move are issued again by the
 * next host's back end, and are answered at the time at which they would have been.
 */
import {
  DISK_DISCARD,
  DISK_READ,
  DISK_WRITE,
  type DiskClient,
  type DiskLink,
  type DiskTransfer,
} from '../../src/devices/vbd/disk-link.js';
import type { Frame } from '../../src/net/frame.js';
import { plainFrame } from '../../src/net/frame.js';
import type { LinkClient, NetLink } from '../../src/net/link.js';
import type { LinearMemory } from '../../src/xen/memory.js';
import { pong } from './pong.js';

const SECTOR = 512;
/** Answers come at multiples of this virtual time, ns, at which every run of a twin is interrupted. */
export const STEP_NS = 1_000_000;
/** The number of sectors that the disk serves in a step, after the first step. */
const SECTORS_A_STEP = 64;
/** The number of steps for a round trip on the network. */
const ROUND_TRIP = 3;

/** Something that is due at a virtual time. */
interface Due {
  readonly at: number;
  run(): void;
}

export class Outside {
  readonly contents: Uint8Array;
  private readonly due: Due[] = [];
  readonly disk: TwinDisk;
  readonly net: TwinNet;
  /** Is called for each request and frame from the guest. */
  onDisk: () => void = () => undefined;
  onFrame: () => void = () => undefined;

  constructor(
    diskBytes: number,
    private readonly now: () => number,
  ) {
    this.contents = new Uint8Array(diskBytes);
    this.disk = new TwinDisk(this);
    this.net = new TwinNet(this);
  }

  /** Calls `run` at the end of this step plus `steps` more. */
  after(steps: number, run: () => void): Due {
    const one = { at: (Math.floor(this.now() / STEP_NS) + 1 + steps) * STEP_NS, run };
    const place = this.due.findIndex((d) => d.at > one.at);
    this.due.splice(place < 0 ? this.due.length : place, 0, one);
    return one;
  }

  /** The time of the next answer; Infinity: none is due. */
  get next(): number {
    return this.due[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  /** Gives all answers that are due by now. */
  deliver(): void {
    while (this.next <= this.now()) this.due.shift()?.run();
  }
}

interface Asked {
  readonly key: string;
  /** Undefined: the guest's host has given the request up, and the next host will issue it again. */
  transfer: DiskTransfer | undefined;
}

const keyOf = (t: DiskTransfer): string =>
  `${t.operation} ${t.sector} ${t.sectors} ${t.nrExtents === 0 ? '' : t.address[0]}`;

/** The disk itself, and each host's access to it. */
class TwinDisk {
  private readonly asked: Asked[] = [];
  /** The number of requests that a host issued although another had issued them before. */
  again = 0;

  constructor(private readonly outside: Outside) {}

  get inFlight(): number {
    return this.asked.length;
  }

  /** Makes another host's access to the disk. */
  link(): DiskLink {
    let client: DiskClient | undefined;
    let memory: LinearMemory | undefined;
    return {
      name: 'the twins’ disk',
      geometry: {
        sectors: this.outside.contents.length / SECTOR,
        sectorBytes: SECTOR,
        physicalSectorBytes: SECTOR,
        readOnly: false,
        discard: { granularity: 4096, alignment: 0 },
      },
      begin: (c, m) => {
        client = c;
        memory = m;
      },
      submit: (transfer) =>
        this.submit(transfer, () => {
          client?.done(transfer, this.run(transfer, memory as LinearMemory));
          client?.batchDone();
        }),
      commit: () => undefined,
      poll: () => undefined,
      quiesce: async () => {
        for (const one of this.asked) one.transfer = undefined;
      },
      release: async () => undefined,
      acquire: async () => undefined,
      later: async () => undefined,
      close: async () => undefined,
    };
  }

  private readonly answers = new Map<Asked, () => void>();

  private submit(transfer: DiskTransfer, answer: () => void): void {
    const key = keyOf(transfer);
    const given = this.asked.find((one) => one.transfer === undefined && one.key === key);
    if (given !== undefined) {
      given.transfer = transfer;
      this.answers.set(given, answer);
      this.again++;
      return;
    }
    const one: Asked = { key, transfer };
    this.asked.push(one);
    this.answers.set(one, answer);
    this.outside.onDisk();
    this.outside.after(1 + Math.floor(transfer.sectors / SECTORS_A_STEP), () => {
      if (one.transfer === undefined) throw new Error(`nobody asked again for ${key}`);
      this.asked.splice(this.asked.indexOf(one), 1);
      const done = this.answers.get(one);
      this.answers.delete(one);
      done?.();
    });
  }

  private run(t: DiskTransfer, memory: LinearMemory): number {
    const { contents } = this.outside;
    let at = t.sector * SECTOR;
    if (t.operation === DISK_DISCARD) contents.fill(0, at, at + t.sectors * SECTOR);
    if (t.operation !== DISK_READ && t.operation !== DISK_WRITE) return 0;
    for (let i = 0; i < t.nrExtents; i++) {
      const there = memory.u8.subarray(t.address[i], t.address[i] + t.length[i]);
      if (t.operation === DISK_READ) there.set(contents.subarray(at, at + t.length[i]));
      else contents.set(there, at);
      at += t.length[i];
    }
    return 0;
  }
}

/** A network with one machine, which answers ARP and pings after a delay. */
class TwinNet {
  private client: LinkClient | undefined;
  /** Answers on their way to the guest. */
  inFlight = 0;
  answered = 0;

  constructor(private readonly outside: Outside) {}

  link(client: LinkClient): NetLink {
    this.client = client;
    return {
      name: 'the twins’ network',
      offloads: false,
      writable: true,
      up: true,
      send: (frame: Frame) => this.send(frame),
      flush: () => undefined,
      setReading: () => undefined,
      close: async () => undefined,
    };
  }

  private send(frame: Frame): void {
    const answer = pong(frame.bytes);
    if (answer === undefined) return;
    this.inFlight++;
    this.outside.onFrame();
    this.outside.after(ROUND_TRIP, () => {
      this.inFlight--;
      this.answered++;
      this.client?.receive(plainFrame(answer));
      this.client?.received();
    });
  }
}
