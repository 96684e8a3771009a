/** `__HYPERVISOR_sched_op` (`sched.h`): yielding the CPU, and shutting a domain down. */
import { struct } from './struct.js';

export const SCHEDOP_yield = 0;
export const SCHEDOP_block = 1;
export const SCHEDOP_shutdown = 2;
export const SCHEDOP_poll = 3;
export const SCHEDOP_remote_shutdown = 4;
export const SCHEDOP_shutdown_code = 5;
export const SCHEDOP_watchdog = 6;
export const SCHEDOP_pin_override = 7;

export const SchedShutdown = struct('sched_shutdown', 4, {
  reason: [0, 'u32'],
});

/** `sched_shutdown.reason`. */
export const SHUTDOWN_poweroff = 0;
export const SHUTDOWN_reboot = 1;
export const SHUTDOWN_suspend = 2;
export const SHUTDOWN_crash = 3;
export const SHUTDOWN_watchdog = 4;
export const SHUTDOWN_soft_reset = 5;
export const SHUTDOWN_MAX = 5;

/** `timeout` is an absolute system time in ns; 0 means to wait for ever. */
export const SchedPoll = struct('sched_poll', 24, {
  ports: [0, 'ptr'],
  nr_ports: [8, 'u32'],
  timeout: [16, 'u64'],
});

export const SchedRemoteShutdown = struct('sched_remote_shutdown', 8, {
  domain_id: [0, 'u16'],
  reason: [4, 'u32'],
});

/** With `id` 0 a new watchdog of `timeout` seconds is made; `timeout` 0 ends one. */
export const SchedWatchdog = struct('sched_watchdog', 8, {
  id: [0, 'u32'],
  timeout: [4, 'u32'],
});

export const SchedPinOverride = struct('sched_pin_override', 4, {
  pcpu: [0, 's32'],
});
