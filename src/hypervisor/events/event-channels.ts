/**
 * The event channels of one domain with the two-level ABI: 4096 ports, each with a pending and a mask bit in
 * shared_info.
 *
 * Invariant: a port keeps its number, kind and binding until the guest closes it, on whatever host it runs. The far
 * end of an interdomain port is the domain itself (loopback) or one of our back ends, which represent domain 0
 * (backend.ts).
 * Source: xen/common/event_channel.c, event_2l.c.
 */
import type { CpuEngine } from '../../engine/engine.js';
import { EEXIST, EINVAL, ENOENT, ENOSPC } from '../../xen/errno.js';
import { NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU } from '../../xen/event-channel.js';
import { DOMID_SELF } from '../../xen/hypercalls.js';
import type { LinearMemory } from '../../xen/memory.js';
import { EVTCHN_2L_NR_CHANNELS, SharedInfo, VcpuInfo } from '../../xen/shared-info.js';
import { NEVER, type VcpuContext } from '../vcpu/vcpu-context.js';

/** The highest port that a guest gets: libxl's default of 1023 (xl.cfg, event_channels). */
const MAX_EVTCHN_PORT = 1023;
/** Xen allocates storage for this many ports at a time. A port without storage is not even "closed". */
const PORTS_PER_BUCKET = 64;
/** Virtual interrupts that are bound per vCPU. */
const PER_VCPU_VIRQS = new Set([VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU]);

export const virqIsGlobal = (virq: number): boolean => !PER_VCPU_VIRQS.has(virq);

/** States of a port, numbered as in xen/sched.h. */
export enum PortState {
  free = 0,
  reserved = 1,
  unbound = 2,
  interdomain = 3,
  pirq = 4,
  virq = 5,
  ipi = 6,
}

export class EventChannels {
  readonly state = new Uint8Array(EVTCHN_2L_NR_CHANNELS);
  /** The vCPU that gets the port's events. */
  readonly vcpu = new Uint8Array(EVTCHN_2L_NR_CHANNELS);
  /** Remote domain of unbound and interdomain ports. */
  readonly remoteDomid = new Uint16Array(EVTCHN_2L_NR_CHANNELS);
  /** The remote port of an interdomain port, or the number of a virtual interrupt. */
  readonly target = new Uint16Array(EVTCHN_2L_NR_CHANNELS);
  /** The handlers of back ends, by local port. */
  private readonly backends: (undefined | (() => void))[] = [];
  /** While this is set: ports whose signals are passed to their back ends later. */
  private held: Set<number> | undefined;
  /** The number of ports for which Xen has storage. */
  validPorts = PORTS_PER_BUCKET;
  /** One bit for each vCPU that polls. */
  pollMask = 0;
  private readonly mem: LinearMemory;

  constructor(
    private readonly engine: CpuEngine,
    private readonly vcpus: readonly VcpuContext[],
    private readonly sharedInfo: number,
    readonly domid: number,
    /** Called when a blocked vCPU may run again, or when a vCPU that waits for its turn has an event to take. */
    private readonly woken: (v: VcpuContext) => void,
  ) {
    this.mem = engine.ram.mem;
    this.state[0] = PortState.reserved;
  }

  /** Whether Xen has storage for the port. */
  valid(port: number): boolean {
    return port >= 0 && port < this.validPorts;
  }

  /** Whether the guest holds the port. */
  usable(port: number): boolean {
    return this.valid(port) && this.state[port] > PortState.reserved;
  }

  /** The lowest free port, or -ENOSPC. */
  private freePort(): number {
    for (let port = 1; port <= MAX_EVTCHN_PORT; port++) {
      if (this.state[port] === PortState.free) {
        while (port >= this.validPorts) this.validPorts += PORTS_PER_BUCKET;
        return port;
      }
    }
    return -ENOSPC;
  }

  // Bits in shared memory. The guest changes the same words, but never at the same time.
  private testAndSet(base: number, bit: number): boolean {
    const at = base + (bit >>> 3);
    const mask = 1 << (bit & 7);
    const old = this.mem.u8[at];
    if (old & mask) return true;
    this.mem.u8[at] = old | mask;
    this.engine.touch(at);
    return false;
  }
  private testAndClear(base: number, bit: number): boolean {
    const at = base + (bit >>> 3);
    const mask = 1 << (bit & 7);
    const old = this.mem.u8[at];
    if (!(old & mask)) return false;
    this.mem.u8[at] = old & ~mask;
    this.engine.touch(at);
    return true;
  }
  private test(base: number, bit: number): boolean {
    return (this.mem.u8[base + (bit >>> 3)] & (1 << (bit & 7))) !== 0;
  }

  private get pending(): number {
    return this.sharedInfo + SharedInfo.evtchn_pending;
  }
  private get mask(): number {
    return this.sharedInfo + SharedInfo.evtchn_mask;
  }

  /** Sets a port pending and notifies its vCPU as the ABI says (evtchn_2l_set_pending). */
  setPending(port: number): void {
    if (this.testAndSet(this.pending, port)) return;
    const v = this.vcpus[this.vcpu[port]];
    if (!this.test(this.mask, port)) this.select(v, port);
    if (this.pollMask !== 0) this.wakePollers(port);
  }

  private select(v: VcpuContext, port: number): void {
    if (!this.testAndSet(v.vcpuInfo + VcpuInfo.evtchn_pending_sel, port >>> 6)) this.markPending(v);
  }

  /** Sets evtchn_upcall_pending and wakes the vCPU (vcpu_mark_events_pending). */
  markPending(v: VcpuContext): void {
    const at = v.vcpuInfo + VcpuInfo.evtchn_upcall_pending;
    if (this.mem.u8[at] !== 0) return;
    this.mem.u8[at] = 1;
    this.engine.touch(at);
    if (v.blocked) this.unblock(v);
    else if (this.deliverable(v)) this.woken(v);
  }

  private wakePollers(port: number): void {
    for (const v of this.vcpus) {
      if (this.pollMask & (1 << v.id) && (v.pollPort <= 0 || v.pollPort === port)) {
        this.pollMask &= ~(1 << v.id);
        this.unblock(v);
      }
    }
  }

  /** Ends a vCPU's blocking or polling (vcpu_unblock). */
  unblock(v: VcpuContext): void {
    if (!v.blocked) return;
    v.blocked = false;
    v.pollPort = 0;
    v.pollTimeout = NEVER;
    this.pollMask &= ~(1 << v.id);
    this.woken(v);
  }

  isPending(port: number): boolean {
    return this.test(this.pending, port);
  }

  unmask(port: number): number {
    if (!this.valid(port)) return -EINVAL;
    if (this.testAndClear(this.mask, port) && this.test(this.pending, port)) {
      this.select(this.vcpus[this.vcpu[port]], port);
    }
    return 0;
  }

  /** Whether the vCPU would take an upcall now. */
  deliverable(v: VcpuContext): boolean {
    return (
      this.mem.u8[v.vcpuInfo + VcpuInfo.evtchn_upcall_pending] !== 0 &&
      this.mem.u8[v.vcpuInfo + VcpuInfo.evtchn_upcall_mask] === 0
    );
  }

  private release(port: number): void {
    this.testAndClear(this.pending, port);
    this.state[port] = PortState.free;
    this.vcpu[port] = 0;
    this.target[port] = 0;
    this.remoteDomid[port] = 0;
    this.backends[port] = undefined;
  }

  /** Allocates a port that `remoteDomid` may bind: the lowest free one. Returns it, or an error. */
  allocUnbound(remoteDomid: number): number {
    const got = this.freePort();
    if (got < 0) return got;
    this.state[got] = PortState.unbound;
    this.remoteDomid[got] = remoteDomid === DOMID_SELF ? this.domid : remoteDomid;
    return got;
  }

  /** Binds a new port to a port of this same domain. Ports of back ends are all bound already: -EINVAL. */
  bindInterdomain(remoteDomid: number, remotePort: number): number {
    const local = this.freePort();
    if (local < 0) return local;
    if (
      remoteDomid !== this.domid ||
      !this.valid(remotePort) ||
      this.state[remotePort] !== PortState.unbound ||
      this.remoteDomid[remotePort] !== this.domid
    ) {
      return -EINVAL;
    }
    this.state[local] = PortState.interdomain;
    this.remoteDomid[local] = this.domid;
    this.target[local] = remotePort;
    this.state[remotePort] = PortState.interdomain;
    this.remoteDomid[remotePort] = this.domid;
    this.target[remotePort] = local;
    this.setPending(local);
    return local;
  }

  bindVirq(virq: number, vcpu: number): number {
    if (virq < 0 || virq >= NR_VIRQS) return -EINVAL;
    if (virqIsGlobal(virq) && vcpu !== 0) return -EINVAL;
    const v = this.vcpus[vcpu];
    if (v === undefined) return -ENOENT;
    if (v.virqPort[virq] !== 0) return -EEXIST;
    const port = this.freePort();
    if (port < 0) return port;
    this.state[port] = PortState.virq;
    this.vcpu[port] = vcpu;
    this.target[port] = virq;
    v.virqPort[virq] = port;
    return port;
  }

  bindIpi(vcpu: number): number {
    if (this.vcpus[vcpu] === undefined) return -ENOENT;
    const port = this.freePort();
    if (port < 0) return port;
    this.state[port] = PortState.ipi;
    this.vcpu[port] = vcpu;
    return port;
  }

  bindVcpu(port: number, vcpu: number): number {
    if (this.vcpus[vcpu] === undefined) return -ENOENT;
    if (!this.valid(port)) return -EINVAL;
    const state = this.state[port];
    const movable =
      state === PortState.unbound ||
      state === PortState.interdomain ||
      (state === PortState.virq && virqIsGlobal(this.target[port]));
    if (!movable) return -EINVAL;
    this.vcpu[port] = vcpu;
    return 0;
  }

  close(port: number): number {
    if (!this.valid(port)) return -EINVAL;
    switch (this.state[port]) {
      case PortState.free:
      case PortState.reserved:
        return -EINVAL;
      case PortState.virq: {
        const virq = this.target[port];
        this.vcpus[virqIsGlobal(virq) ? 0 : this.vcpu[port]].virqPort[virq] = 0;
        break;
      }
      case PortState.interdomain:
        if (this.remoteDomid[port] === this.domid) {
          const other = this.target[port];
          this.state[other] = PortState.unbound;
          this.remoteDomid[other] = this.domid;
          this.target[other] = 0;
        }
        break;
    }
    this.release(port);
    return 0;
  }

  send(port: number): number {
    if (!this.valid(port)) return -EINVAL;
    switch (this.state[port]) {
      case PortState.interdomain:
        if (this.remoteDomid[port] === this.domid) this.setPending(this.target[port]);
        else if (this.held !== undefined) this.held.add(port);
        else this.backends[port]?.();
        return 0;
      case PortState.ipi:
        this.setPending(port);
        return 0;
      case PortState.unbound:
        return 0;
      default:
        return -EINVAL;
    }
  }

  /** The back ends are not running yet: signals from the guest are passed on to them in `letGo`, once for each port. */
  hold(): void {
    this.held ??= new Set();
  }
  letGo(): void {
    const { held } = this;
    if (held === undefined) return;
    this.held = undefined;
    for (const port of held) if (this.state[port] === PortState.interdomain) this.backends[port]?.();
  }

  /** Closes every port that the guest holds (EVTCHNOP_reset). */
  reset(): number {
    for (let port = 1; port < this.validPorts; port++) this.close(port);
    return 0;
  }

  /** Raises a virtual interrupt. Global ones go to the port that vCPU 0 bound. */
  virq(v: VcpuContext, virq: number): void {
    const port = v.virqPort[virq];
    if (port !== 0) this.setPending(port);
  }

  /**
   * Connects a back end to the guest's unbound port `port`. `onNotify` is called on every send. The remote port
   * number that the guest can see is the same on every host. This is also used for a restored port.
   */
  bindBackend(port: number, domid: number, onNotify: () => void): number {
    if (!this.valid(port)) return -EINVAL;
    const state = this.state[port];
    if (state === PortState.unbound && this.remoteDomid[port] === domid) {
      this.state[port] = PortState.interdomain;
      this.target[port] = port;
    } else if (state !== PortState.interdomain || this.remoteDomid[port] !== domid || domid === this.domid) {
      return -EINVAL;
    }
    this.backends[port] = onNotify;
    return 0;
  }

  /** The number of ports that are not free. */
  portsInUse(): number {
    let count = 0;
    for (let port = 1; port < this.validPorts; port++) if (this.state[port] !== PortState.free) count++;
    return count;
  }

  /** Disconnects the back end: the port is unbound again, as after the far end has closed it. */
  unbindBackend(port: number): void {
    if (this.backends[port] === undefined || this.state[port] !== PortState.interdomain) return;
    this.backends[port] = undefined;
    this.state[port] = PortState.unbound;
    this.target[port] = 0;
  }
}

export interface EventState {
  readonly events: EventChannels;
}
