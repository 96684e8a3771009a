/**
 * HYPERVISOR_event_channel_op: the argument structure of each command is copied in, checked and copied back. The FIFO
 * ABI is refused with -ENOSYS, as by a Xen that was built without it; guests then use the two-level ABI.
 * Source: do_event_channel_op of xen/common/event_channel.c; public/event_channel.h.
 */
import { EFAULT, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../../xen/errno.js';
import * as E from '../../xen/event-channel.js';
import type { CallState } from '../calls/call-state.js';
import { NR_PIRQS } from '../calls/processor-ops.js';
import type { OwnIdState } from '../identity.js';
import type { FrameState } from '../mmu/mmu-state.js';
import type { VcpusState } from '../vcpu/turn-state.js';
import type { EventState } from './event-channels.js';
import { PortState } from './event-channels.js';

/** What the operations on event channels work on. */
interface EventChannelOpState extends CallState, FrameState, EventState, OwnIdState, VcpusState {}

export function eventChannelOp(d: EventChannelOpState): number {
  const cmd = d.args.int(0);
  const arg = d.args.long(1);
  const { events, guest } = d;
  const { buffer } = guest;
  const vcpu = d.current.id;
  switch (cmd) {
    case E.EVTCHNOP_send:
      if (!guest.copyIn(vcpu, arg, 4)) return -EFAULT;
      return events.send(buffer.getU32(0));
    case E.EVTCHNOP_unmask:
      if (!guest.copyIn(vcpu, arg, 4)) return -EFAULT;
      return events.unmask(buffer.getU32(0));
    case E.EVTCHNOP_alloc_unbound: {
      const s = E.EvtchnAllocUnbound;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      const rc = checkSelf(d, buffer.getU16(s.dom));
      if (rc !== 0) return rc;
      return give(d, arg, s.sizeof, s.port, events.allocUnbound(buffer.getU16(s.remote_dom)));
    }
    case E.EVTCHNOP_bind_interdomain: {
      const s = E.EvtchnBindInterdomain;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      const remote = buffer.getU16(s.remote_dom);
      if (!d.isSelf(remote) && remote !== 0) return -ESRCH;
      const domid = d.isSelf(remote) ? d.domid : remote;
      return give(
        d,
        arg,
        s.sizeof,
        s.local_port,
        events.bindInterdomain(domid, buffer.getU32(s.remote_port)),
      );
    }
    case E.EVTCHNOP_bind_virq: {
      const s = E.EvtchnBindVirq;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      const port = events.bindVirq(buffer.getS32(s.virq), buffer.getU32(s.vcpu));
      return give(d, arg, s.sizeof, s.port, port);
    }
    case E.EVTCHNOP_bind_ipi: {
      const s = E.EvtchnBindIpi;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      return give(d, arg, s.sizeof, s.port, events.bindIpi(buffer.getU32(s.vcpu)));
    }
    case E.EVTCHNOP_bind_pirq: {
      const s = E.EvtchnBindPirq;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      return buffer.getU32(s.pirq) >= NR_PIRQS ? -EINVAL : -EPERM;
    }
    case E.EVTCHNOP_close:
      if (!guest.copyIn(vcpu, arg, 4)) return -EFAULT;
      return events.close(buffer.getU32(0));
    case E.EVTCHNOP_status:
      return status(d, arg);
    case E.EVTCHNOP_bind_vcpu: {
      const s = E.EvtchnBindVcpu;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      return events.bindVcpu(buffer.getU32(s.port), buffer.getU32(s.vcpu));
    }
    case E.EVTCHNOP_init_control:
      return initControl(d, arg);
    case E.EVTCHNOP_expand_array:
      return guest.copyIn(vcpu, arg, E.EvtchnExpandArray.sizeof) ? -EOPNOTSUPP : -EFAULT;
    case E.EVTCHNOP_set_priority:
      if (!guest.copyIn(vcpu, arg, 8)) return -EFAULT;
      return events.valid(buffer.getU32(0)) ? -ENOSYS : -EINVAL;
    case E.EVTCHNOP_reset:
    case EVTCHNOP_RESET_CONT: {
      const s = E.EvtchnReset;
      if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
      const rc = checkSelf(d, buffer.getU16(s.dom));
      return rc !== 0 ? rc : events.reset();
    }
    default:
      return -ENOSYS;
  }
}

/** The command with which Xen continues a reset that was preempted. A guest may use it too. */
const EVTCHNOP_RESET_CONT = 14;
/** struct evtchn_fifo_control_block. */
const CONTROL_BLOCK_BYTES = 72;

/** The FIFO ABI: its arguments are checked, and then the call fails because the ABI is not supported. */
function initControl(d: CallState & FrameState & VcpusState, arg: number): number {
  const s = E.EvtchnInitControl;
  const { buffer } = d.guest;
  if (!d.guest.copyIn(d.current.id, arg, s.sizeof)) return -EFAULT;
  if (d.vcpus[buffer.getU32(s.vcpu)] === undefined) return -ENOENT;
  const offset = buffer.getU32(s.offset);
  if (offset > 4096 - CONTROL_BLOCK_BYTES || offset & 7) return -EINVAL;
  return d.tables.guestFrame(buffer.getU64(s.control_gfn)) < 0 ? -EINVAL : -ENOSYS;
}

/** The first interface: the command, followed by its structure. */
export function eventChannelOpCompat(d: EventChannelOpState): number {
  const op = d.args.long(0);
  if (!d.guest.copyIn(d.current.id, op, COMPAT_OP_BYTES)) return -EFAULT;
  const cmd = d.guest.buffer.getU32(0);
  if (cmd > E.EVTCHNOP_unmask) return -ENOSYS;
  d.args.setLong(0, cmd);
  d.args.setLong(1, op + 4);
  return eventChannelOp(d);
}
const COMPAT_OP_BYTES = 28;

/** Returns 0 for the domain itself, -EPERM for domain 0, which exists, and -ESRCH for domains that do not. */
function checkSelf(d: OwnIdState, domid: number): number {
  return d.isSelf(domid) ? 0 : domid === 0 ? -EPERM : -ESRCH;
}

/**
 * Writes the port that was bound into the argument structure, copies all of it out, and returns the hypercall's
 * result.
 */
function give(d: CallState, arg: number, bytes: number, field: number, port: number): number {
  if (port < 0) return port;
  d.guest.buffer.setU32(field, port);
  return d.guest.copyOut(d.current.id, arg, bytes) ? 0 : -EFAULT;
}

function status(d: CallState & EventState & OwnIdState, arg: number): number {
  const s = E.EvtchnStatus;
  const { buffer } = d.guest;
  if (!d.guest.copyIn(d.current.id, arg, s.sizeof)) return -EFAULT;
  const domid = buffer.getU16(s.dom);
  if (!d.isSelf(domid) && domid !== 0) return -ESRCH;
  const port = buffer.getU32(s.port);
  if (!d.isSelf(domid)) return port < 64 ? -EPERM : -EINVAL;
  const { events } = d;
  if (!events.valid(port)) return -EINVAL;
  buffer.setU32(s.vcpu, events.vcpu[port]);
  switch (events.state[port]) {
    case PortState.unbound:
      buffer.setU32(s.status, E.EVTCHNSTAT_unbound);
      buffer.setU16(s.u_unbound_dom, events.remoteDomid[port]);
      break;
    case PortState.interdomain:
      buffer.setU32(s.status, E.EVTCHNSTAT_interdomain);
      buffer.setU16(s.u_interdomain_dom, events.remoteDomid[port]);
      buffer.setU32(s.u_interdomain_port, events.target[port]);
      break;
    case PortState.virq:
      buffer.setU32(s.status, E.EVTCHNSTAT_virq);
      buffer.setU32(s.u_virq, events.target[port]);
      break;
    case PortState.ipi:
      buffer.setU32(s.status, E.EVTCHNSTAT_ipi);
      break;
    default:
      buffer.setU32(s.status, E.EVTCHNSTAT_closed);
  }
  return d.guest.copyOut(d.current.id, arg, s.sizeof) ? 0 : -EFAULT;
}
