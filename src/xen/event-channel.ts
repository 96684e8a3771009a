/**
 * Event channels (`event_channel.h`) and virtual interrupts (`xen.h`).
 */
import { struct } from './struct.js';

/** `__HYPERVISOR_event_channel_op` sub-operations. */
export const EVTCHNOP_bind_interdomain = 0;
export const EVTCHNOP_bind_virq = 1;
export const EVTCHNOP_bind_pirq = 2;
export const EVTCHNOP_close = 3;
export const EVTCHNOP_send = 4;
export const EVTCHNOP_status = 5;
export const EVTCHNOP_alloc_unbound = 6;
export const EVTCHNOP_bind_ipi = 7;
export const EVTCHNOP_bind_vcpu = 8;
export const EVTCHNOP_unmask = 9;
export const EVTCHNOP_reset = 10;
export const EVTCHNOP_init_control = 11;
export const EVTCHNOP_expand_array = 12;
export const EVTCHNOP_set_priority = 13;

export const EvtchnAllocUnbound = struct('evtchn_alloc_unbound', 8, {
  dom: [0, 'u16'],
  remote_dom: [2, 'u16'],
  port: [4, 'u32'],
});

export const EvtchnBindInterdomain = struct('evtchn_bind_interdomain', 12, {
  remote_dom: [0, 'u16'],
  remote_port: [4, 'u32'],
  local_port: [8, 'u32'],
});

export const EvtchnBindVirq = struct('evtchn_bind_virq', 12, {
  virq: [0, 'u32'],
  vcpu: [4, 'u32'],
  port: [8, 'u32'],
});

export const EvtchnBindPirq = struct('evtchn_bind_pirq', 12, {
  pirq: [0, 'u32'],
  flags: [4, 'u32'],
  port: [8, 'u32'],
});

export const EvtchnBindIpi = struct('evtchn_bind_ipi', 8, {
  vcpu: [0, 'u32'],
  port: [4, 'u32'],
});

export const EvtchnClose = struct('evtchn_close', 4, {
  port: [0, 'u32'],
});

export const EvtchnSend = struct('evtchn_send', 4, {
  port: [0, 'u32'],
});

/** The union `u` depends on `status`: it is unbound.dom, interdomain.{dom,port}, pirq, or virq. */
export const EvtchnStatus = struct('evtchn_status', 24, {
  dom: [0, 'u16'],
  port: [4, 'u32'],
  status: [8, 'u32'],
  vcpu: [12, 'u32'],
  u_unbound_dom: [16, 'u16', 'u.unbound.dom'],
  u_interdomain_dom: [16, 'u16', 'u.interdomain.dom'],
  u_interdomain_port: [20, 'u32', 'u.interdomain.port'],
  u_pirq: [16, 'u32', 'u.pirq'],
  u_virq: [16, 'u32', 'u.virq'],
});

/** `evtchn_status.status`. */
export const EVTCHNSTAT_closed = 0;
export const EVTCHNSTAT_unbound = 1;
export const EVTCHNSTAT_interdomain = 2;
export const EVTCHNSTAT_pirq = 3;
export const EVTCHNSTAT_virq = 4;
export const EVTCHNSTAT_ipi = 5;

export const EvtchnBindVcpu = struct('evtchn_bind_vcpu', 8, {
  port: [0, 'u32'],
  vcpu: [4, 'u32'],
});

export const EvtchnUnmask = struct('evtchn_unmask', 4, {
  port: [0, 'u32'],
});

export const EvtchnReset = struct('evtchn_reset', 2, {
  dom: [0, 'u16'],
});

export const EvtchnInitControl = struct('evtchn_init_control', 24, {
  control_gfn: [0, 'u64'],
  offset: [8, 'u32'],
  vcpu: [12, 'u32'],
  link_bits: [16, 'u8'],
});

export const EvtchnExpandArray = struct('evtchn_expand_array', 8, {
  array_gfn: [0, 'u64'],
});

export const EvtchnSetPriority = struct('evtchn_set_priority', 8, {
  port: [0, 'u32'],
  priority: [4, 'u32'],
});

/** Priorities of events; 0 is the highest. */
export const EVTCHN_FIFO_PRIORITY_MAX = 0;
export const EVTCHN_FIFO_PRIORITY_DEFAULT = 7;
export const EVTCHN_FIFO_PRIORITY_MIN = 15;
export const EVTCHN_FIFO_MAX_QUEUES = 16;

/**
 * Virtual interrupts. TIMER, DEBUG, XENOPROF and XENPMU have one port for each vCPU, the others one for each domain
 * or for the host.
 */
export const VIRQ_TIMER = 0;
export const VIRQ_DEBUG = 1;
export const VIRQ_CONSOLE = 2;
export const VIRQ_DOM_EXC = 3;
export const VIRQ_TBUF = 4;
export const VIRQ_DEBUGGER = 6;
export const VIRQ_XENOPROF = 7;
export const VIRQ_CON_RING = 8;
export const VIRQ_PCPU_STATE = 9;
export const VIRQ_MEM_EVENT = 10;
export const VIRQ_ARGO = 11;
export const VIRQ_ENOMEM = 12;
export const VIRQ_XENPMU = 13;
export const VIRQ_ARCH_0 = 16;
export const VIRQ_ARCH_1 = 17;
export const VIRQ_ARCH_2 = 18;
export const VIRQ_ARCH_3 = 19;
export const VIRQ_ARCH_4 = 20;
export const VIRQ_ARCH_5 = 21;
export const VIRQ_ARCH_6 = 22;
export const VIRQ_ARCH_7 = 23;
export const NR_VIRQS = 24;
