/** The registration of callbacks (`callback.h`, `nmi.h`): `__HYPERVISOR_callback_op` and `__HYPERVISOR_nmi_op`. */
import { struct } from './struct.js';

export const CALLBACKOP_register = 0;
export const CALLBACKOP_unregister = 1;

/** `callback_register.type`. */
export const CALLBACKTYPE_event = 0;
export const CALLBACKTYPE_failsafe = 1;
export const CALLBACKTYPE_syscall = 2;
export const CALLBACKTYPE_sysenter_deprecated = 3;
export const CALLBACKTYPE_nmi = 4;
export const CALLBACKTYPE_sysenter = 5;
export const CALLBACKTYPE_syscall32 = 7;

/** `callback_register.flags`: events are masked on entry to the callback. */
export const CALLBACKF_mask_events = 1 << 0;

export const CallbackRegister = struct('callback_register', 16, {
  type: [0, 'u16'],
  flags: [2, 'u16'],
  address: [8, 'u64'],
});

export const CallbackUnregister = struct('callback_unregister', 4, {
  type: [0, 'u16'],
  _unused: [2, 'u16'],
});

/** `__HYPERVISOR_nmi_op` sub-operations. */
export const XENNMI_register_callback = 0;
export const XENNMI_unregister_callback = 1;

export const XennmiCallback = struct('xennmi_callback', 16, {
  handler_address: [0, 'u64'],
});
