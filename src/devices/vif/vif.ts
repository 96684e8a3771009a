/**
 * The network back end: it moves packets between the guest's rings and the link of the guest's present host.
 *
 * Invariants: while `frozen` (from the moment the guest stops to its next instruction) no guest memory changes, and
 * frames that arrive wait. Every packet from the guest is given to the link at most once and answered exactly once.
 * What was agreed with the front end holds on every host: if a link can do less, the back end does the rest of the
 * work. Source: xen/include/public/io/netif.h; Linux, drivers/net/xen-netback.
 */
import type { VifRate } from '../../guest/vif-spec.js';
import { completeChecksum } from '../../net/checksum.js';
import { flowHash } from '../../net/flow.js';
import { type Frame, GSO_NONE, GSO_TCPV4, NEEDS_CSUM, plainFrame } from '../../net/frame.js';
import { findHeaders, newHeaders } from '../../net/headers.js';
import type { LinkClient, NetLink } from '../../net/link.js';
import { formatMac, parseMac } from '../../net/mac.js';
import { finishFrame } from '../../net/segment.js';
import type { SourceFilter } from '../../net/source-filter.js';
import { RecordError } from '../../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord } from '../../records/record.js';
import { NETIF_RSP_ERROR, NETIF_RSP_OKAY, XEN_NETIF_EXTRA_TYPE_MCAST_ADD } from '../../xen/netif.js';
import type { Port } from '../../xen/types.js';
import { XenbusStateConnected } from '../../xen/xenbus.js';
import type { GuestAccess } from '../guest-access.js';
import type { DevicePoint, HostLinks, VifTimers } from '../links.js';
import type { Bus, FrontEnd, Nodes, XenbusDriver } from '../xenbus.js';
import { Alarms } from './alarms.js';
import { Announcer } from './announcer.js';
import { MAX_QUEUES, readFeatures, readQueues, type VifFeatures } from './features.js';
import { MulticastFilter } from './multicast.js';
import { vifPoints } from './points.js';
import { VifQueue } from './queue.js';
import { Credit } from './rate.js';
import { vifRecord } from './record.js';
import { Put, RxRing } from './rx-ring.js';
import { Found } from './tx-ring.js';

export interface VifConfig {
  /** For example "00:16:3e:01:02:03". */
  readonly mac: string;
  readonly rate: VifRate | undefined;
  /** Restricts what the vif may send. Undefined: it may send anything. */
  readonly filter?: SourceFilter;
}

export class Vif implements XenbusDriver, LinkClient {
  bus: Bus | undefined;
  readonly stats = {
    txPackets: 0,
    txBytes: 0,
    txErrors: 0,
    txForeign: 0,
    rxPackets: 0,
    rxBytes: 0,
    rxDropped: 0,
  };
  private link: NetLink | undefined;
  private devid = 0;
  private alarms: Alarms | undefined;
  private queues: VifQueue[] = [];
  private features: VifFeatures | undefined;
  private frozen = false;
  private readonly filter = new MulticastFilter();
  private readonly sources: SourceFilter | undefined;
  private readonly credit: Credit | undefined;
  private readonly announcer: Announcer;
  private readonly mac: number;
  private readonly frame: Frame = plainFrame(new Uint8Array(0));
  private readonly headers = newHeaders();

  constructor(
    private readonly access: GuestAccess,
    config: VifConfig,
    /** The vif's settings as they move with the guest. From them each host finds a link. */
    private readonly spec: string,
    private readonly log: (line: string) => void,
  ) {
    this.mac = parseMac(config.mac);
    this.sources = config.filter;
    this.credit = config.rate === undefined ? undefined : new Credit(config.rate);
    this.announcer = new Announcer(this.mac);
  }

  /** Sets the host's link, which the caller opens and closes. Undefined: the vif has no link on this host. */
  setLink(link: NetLink | undefined, timers: VifTimers): void {
    this.link = link;
    this.alarms = new Alarms(timers);
    this.readOn();
  }
  async attach(links: HostLinks, devid: number): Promise<void> {
    if (links.vif === undefined) throw new Error('this host has no networks');
    this.devid = devid;
    const { link, timers } = await links.vif(devid, this.spec, this);
    this.setLink(link, timers);
  }

  async detach(): Promise<void> {
    const { link } = this;
    this.cancelTimers();
    this.link = undefined;
    await link?.close();
  }

  points(): DevicePoint[] {
    const ends = this.queues.map((q) => q.ends);
    return vifPoints(this.devid, formatMac(this.mac), ends, this.features, this.link);
  }

  // The handshake.

  connectsAt(frontState: number): boolean {
    return frontState === XenbusStateConnected;
  }

  offers(): Nodes {
    return {
      'feature-sg': 1,
      'feature-gso-tcpv4': 1,
      'feature-gso-tcpv6': 1,
      'feature-ipv6-csum-offload': 1,
      'feature-rx-copy': 1,
      'feature-rx-flip': 0,
      'feature-multicast-control': 1,
      'feature-split-event-channels': 1,
      'multi-queue-max-queues': MAX_QUEUES,
      'hotplug-status': 'connected',
    };
  }

  connect(front: FrontEnd): Nodes {
    const features = readFeatures(front);
    const ends = readQueues(front);
    const queues: VifQueue[] = [];
    try {
      for (const one of ends) {
        const queue = VifQueue.connect(this.access, one);
        try {
          this.bind(queue);
        } catch (error) {
          queue.close();
          throw error;
        }
        queues.push(queue);
      }
      this.filter.enabled = front.flag('request-multicast-control');
    } catch (error) {
      for (const queue of queues) {
        queue.unbind();
        queue.close();
      }
      throw error;
    }
    this.filter.groups.clear();
    this.features = features;
    this.queues = queues;
    return {};
  }

  private bind(queue: VifQueue): void {
    queue.bind(
      () => this.transmit(queue),
      () => this.deliver(queue),
    );
  }

  start(): void {
    this.frozen = false;
    if (this.announcer.due) this.announce();
    // If the guest was stopped after it had put something on a ring and before it signalled it, it will still signal
    // it. Serving the ring earlier would show the guest that it was stopped.
    for (const queue of this.queues) {
      if (queue.txOwed) this.transmit(queue);
      if (queue.rxOwed) this.deliver(queue);
    }
    this.readOn();
  }

  disconnect(done: () => void): void {
    for (const queue of this.queues) {
      queue.unbind();
      queue.close();
    }
    this.cancelTimers();
    this.queues = [];
    done();
  }

  async pause(): Promise<void> {
    this.frozen = true;
    this.cancelTimers();
    this.link?.flush();
    this.link?.setReading(false);
  }

  // Out of the guest.

  private transmit(queue: VifQueue): void {
    if (this.frozen || queue.broken) return;
    const { tx } = queue;
    queue.txOwed = false;
    let requestsLeft = true;
    while (requestsLeft) {
      let found: number;
      while ((found = tx.peek()) === Found.packet) {
        if (!this.mayTake(queue)) {
          queue.txOwed = true;
          this.pushTx(queue);
          return;
        }
        tx.respond(this.take(queue));
      }
      if (found === Found.broken) {
        this.breakQueue(queue, tx.trouble);
        return;
      }
      requestsLeft = tx.finalCheck();
    }
    this.pushTx(queue);
  }

  private pushTx(queue: VifQueue): void {
    if (queue.tx.push()) this.access.notify(queue.ends.txPort as Port);
    this.link?.flush();
  }

  /** Whether the packet that was found may be sent now. If not, `transmit` will be called again later. */
  private mayTake(queue: VifQueue): boolean {
    if (this.link?.writable === false) return false;
    if (this.credit === undefined || this.alarms === undefined) return true;
    const wait = this.credit.take(queue.tx.size, this.alarms.now());
    if (wait === 0) return true;
    if (!queue.waits) {
      queue.waits = true;
      this.alarms.after(wait, () => {
        queue.waits = false;
        this.transmit(queue);
      });
    }
    return false;
  }

  /** Sends the packet that was found, or does what it asks for. Returns the status of the response. */
  private take(queue: VifQueue): number {
    const { tx } = queue;
    const { stats, frame, link } = this;
    if (tx.multicast !== 0) {
      if (tx.multicast !== XEN_NETIF_EXTRA_TYPE_MCAST_ADD) this.filter.remove(tx.multicastMac);
      else if (!this.filter.add(tx.multicastMac)) return NETIF_RSP_ERROR;
      return NETIF_RSP_OKAY;
    }
    if (!tx.copy(frame)) {
      stats.txErrors++;
      return NETIF_RSP_ERROR;
    }
    // The guest gets no error for the dropped frame, as with a bridge under Xen's antispoof.
    if (this.sources?.passes(frame.bytes) === false) {
      if (stats.txForeign++ === 0)
        this.log(
          `vif ${formatMac(this.mac)}: frames from addresses that are not its own are dropped (antispoof)`,
        );
      return NETIF_RSP_OKAY;
    }
    stats.txPackets++;
    stats.txBytes += frame.bytes.length;
    this.announcer.addresses.look(frame.bytes);
    if (link !== undefined) this.send(link, frame);
    return NETIF_RSP_OKAY;
  }

  private send(link: NetLink, frame: Frame): void {
    if (link.offloads) link.send(frame);
    else finishFrame(frame, (f) => link.send(f));
  }

  drained(): void {
    for (const queue of this.queues) this.transmit(queue);
  }

  // Into the guest.

  receive(frame: Frame): void {
    const { queues, features } = this;
    if (queues.length === 0 || features === undefined) return;
    if (!this.filter.passes(frame.bytes)) return;
    const queue = queues.length === 1 ? queues[0] : queues[flowHash(frame.bytes) % queues.length];
    if (frame.gsoType !== GSO_NONE) {
      if (frame.gsoType === GSO_TCPV4 ? features.gso4 : features.gso6) this.give(queue, frame);
      else finishFrame(frame, (f) => this.give(queue, f));
      return;
    }
    if (frame.flags & NEEDS_CSUM && !this.takesBlankChecksum(frame, features)) completeChecksum(frame);
    this.give(queue, frame);
  }

  private takesBlankChecksum(frame: Frame, features: VifFeatures): boolean {
    findHeaders(frame.bytes, this.headers);
    if (this.headers.l4 !== frame.csumStart) return false;
    return this.headers.ip === 6 ? features.csum6 : features.csum4;
  }

  private give(queue: VifQueue, frame: Frame): void {
    const { stats } = this;
    if (queue.broken || (RxRing.slots(frame) > 1 && this.features?.sg !== true)) {
      stats.rxDropped++;
      return;
    }
    if (this.frozen && queue.backlog.length === 0) queue.rxOwed = true;
    const put = this.frozen || queue.backlog.length > 0 ? Put.noRoom : queue.rx.put(frame);
    if (put === Put.broken) {
      this.breakQueue(queue, queue.rx.trouble);
      return;
    }
    if (put === Put.noRoom && !queue.wait(frame)) {
      stats.rxDropped++;
      return;
    }
    stats.rxPackets++;
    stats.rxBytes += frame.bytes.length;
  }

  received(): void {
    if (this.frozen) return;
    for (const queue of this.queues) this.deliver(queue);
  }

  /** Moves waiting frames into the ring and notifies the guest. */
  private deliver(queue: VifQueue): void {
    if (this.frozen || queue.broken) return;
    queue.rxOwed = false;
    if (queue.drain() === Put.broken) {
      this.breakQueue(queue, queue.rx.trouble);
      return;
    }
    if (queue.rx.push()) this.access.notify(queue.ends.rxPort as Port);
    this.readOn();
  }

  /** The link is read only while no queue's backlog is full. */
  private readOn(): void {
    this.link?.setReading(!this.frozen && !this.queues.some((q) => q.full));
  }

  private breakQueue(queue: VifQueue, why: string): void {
    queue.broken = true;
    queue.clearBacklog();
    this.log(`vif ${formatMac(this.mac)}: ${why}; the queue is stopped`);
  }

  // The link's state, and the announcements to the network.

  linkChanged(up: boolean): void {
    if (!up) return;
    if (this.frozen) this.announcer.due = true;
    else {
      this.announce();
      this.drained();
    }
  }

  /** Sends the announcements if there is a link and the front end is connected. */
  private announce(): void {
    const { link, alarms } = this;
    if (link !== undefined && alarms !== undefined && this.queues.length > 0)
      this.announcer.begin(link, alarms);
  }

  private cancelTimers(): void {
    this.alarms?.cancelAll();
    for (const queue of this.queues) queue.waits = false;
  }

  save(): Uint8Array {
    const features = this.features as VifFeatures;
    return encodeRecord(vifRecord, {
      ...features,
      multicastControl: this.filter.enabled,
      groups: [...this.filter.groups],
      addresses: [...this.announcer.addresses.addresses],
      queues: this.queues.map((q) => ({
        ...q.ends,
        txIndex: q.tx.ring.req_cons,
        rxIndex: q.rx.ring.req_cons,
        broken: q.broken,
        backlog: q.backlog,
        txOwed: q.txOwed,
        rxOwed: q.rxOwed,
      })),
    });
  }

  restore(record: Uint8Array): void {
    const saved = decodeRecord(vifRecord, decodeRaw(record));
    this.frozen = true;
    const { sg, gso4, gso6, csum4, csum6 } = saved;
    this.features = { sg, gso4, gso6, csum4, csum6 };
    this.filter.enabled = saved.multicastControl;
    for (const mac of saved.groups) this.filter.add(mac);
    // A saved state must not make this vif announce addresses that it may not use.
    this.announcer.restore(saved.addresses.filter((a) => this.sources?.has(a) !== false));
    this.queues = saved.queues.map((one) => {
      const queue = VifQueue.restore(this.access, one, one.txIndex, one.rxIndex);
      if (queue === undefined) throw new RecordError(0, "a vif's ring is not among the grants in use");
      queue.broken = one.broken;
      for (const frame of one.backlog) queue.wait(frame);
      queue.txOwed = one.txOwed;
      queue.rxOwed = one.rxOwed;
      this.bind(queue);
      return queue;
    });
  }
}
