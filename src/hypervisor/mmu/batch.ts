/**
 * The loop that mmu_update and mmuext_op share: requests from a list are done one by one, the number of finished ones
 * is written to where the guest wants it, and a long list is interrupted and continued later. The arguments are:
 * list, count, where to write the number (or null), and the domain of the pages.
 * Source: do_mmu_update, do_mmuext_op of xen/arch/x86/mm.c.
 */
import { EFAULT } from '../../xen/errno.js';
import type { CallState, LongCallState } from '../calls/call-state.js';
import type { FrameState } from './mmu-state.js';

/** A flag in `count`: this continues a call that was preempted. */
const MMU_UPDATE_PREEMPTED = 0x8000_0000;

/** A continuation with nothing left to do. Its result is in the last argument. */
export const batchIsOver = (d: CallState): boolean =>
  d.args.lo[1] === MMU_UPDATE_PREEMPTED && d.args.isNull(0);

export const batchCount = (d: CallState): number => (d.args.lo[1] & ~MMU_UPDATE_PREEMPTED) >>> 0;

/**
 * Calls `one` for each request of `bytes` bytes, which is at the start of the copy buffer. Stops at the first result
 * that is not 0, and does nothing if `rc` is not 0.
 */
export function batch<D extends LongCallState & FrameState>(
  d: D,
  bytes: number,
  rc: number,
  one: (d: D) => number,
): number {
  const { args, guest } = d;
  const list = args.long(0);
  const count = batchCount(d);
  const pdone = args.isNull(2) ? 0 : args.long(2);
  const vcpu = d.current.id;
  let done = 0;
  if (args.lo[1] & MMU_UPDATE_PREEMPTED && pdone !== 0 && guest.copyIn(vcpu, pdone, 4))
    done = guest.buffer.getU32(0);
  let i = 0;
  for (; i < count && rc === 0; i++) {
    if (i > 0 && d.stepPreempts()) {
      args.setLong(0, list + i * bytes);
      args.setLong(1, ((count - i) | MMU_UPDATE_PREEMPTED) >>> 0);
      d.preempted = true;
      break;
    }
    rc = guest.copyIn(vcpu, list + i * bytes, bytes) ? one(d) : -EFAULT;
    if (rc !== 0) break;
  }
  d.tables.flushUpper();
  if (pdone !== 0) {
    guest.buffer.setU32(0, done + i);
    guest.copyOut(vcpu, pdone, 4);
  }
  return rc;
}
