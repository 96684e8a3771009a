import { beforeEach, describe, expect, it } from 'vitest';
import { CallingGuest, DATA, HOLE, mfn } from '../../../test/support/tiny-guest.js';
import { EEXIST, EFAULT, EINVAL, ENOENT, ENOSPC, ENOSYS, EPERM, ESRCH } from '../../xen/errno.js';
import type { Port } from '../../xen/types.js';

const DOMID_SELF = 0x7ff0;
let c: CallingGuest;
beforeEach(async () => {
  c = await CallingGuest.boot({ vcpus: 2 });
});
/** Makes an event_channel_op with a structure of 32-bit words. */
const op = (command: number, ...words: number[]): number => {
  for (const [i, w] of words.entries()) c.guest.setU32(DATA + 4 * i, w);
  return c.call(32, command, DATA);
};
const out = (word: number): number => c.guest.u32(DATA + 4 * word);
const both = (dom: number, remote: number): number => dom + remote * 65536;
const allocUnbound = (dom = DOMID_SELF, remote = DOMID_SELF): number => op(6, both(dom, remote), 0);

describe('ports of a guest', () => {
  it('are numbered from the lowest free one, after those of xenstore and console', () => {
    expect(allocUnbound()).toBe(0);
    expect(out(1)).toBe(3);
    expect(op(7, 0)).toBe(0);
    expect(out(1)).toBe(4);
    expect(op(3, 3)).toBe(0);
    expect(op(1, 0, 0)).toBe(0);
    expect(out(2)).toBe(3);
  });

  it('cannot be opened for other domains, nor beyond 1023', () => {
    expect(allocUnbound(0)).toBe(-EPERM);
    expect(allocUnbound(5)).toBe(-ESRCH);
    let rc = 0;
    let last = 0;
    while ((rc = op(7, 0)) === 0) last = out(1);
    expect(rc).toBe(-ENOSPC);
    expect(last).toBe(1023);
  });

  it('carry events to the guest itself in both directions', () => {
    allocUnbound();
    expect(op(0, DOMID_SELF, 3, 0)).toBe(0);
    expect(out(2)).toBe(4);
    const { events } = c.guest.domain.state;
    expect(events.isPending(4)).toBe(true);
    expect(op(4, 4)).toBe(0);
    expect(events.isPending(3)).toBe(true);
    expect(op(5, DOMID_SELF, 3, 0, 0, 0, 0)).toBe(0);
    expect([out(2), out(4), out(5)]).toEqual([2, 7, 4]);
    expect(op(3, 4)).toBe(0);
    expect(op(5, DOMID_SELF, 3, 0, 0, 0, 0)).toBe(0);
    expect([out(2), out(4) & 0xffff]).toEqual([1, 7]);
  });

  it('reach a back end, whose notifications reach the guest', () => {
    let notified = 0;
    const { backend, state } = c.guest.domain;
    expect(backend.bindBackend(1 as Port, () => notified++)).toBe(0);
    expect(op(4, 1)).toBe(0);
    expect(notified).toBe(1);
    backend.notify(1 as Port);
    expect(state.events.isPending(1)).toBe(true);
    expect(op(5, DOMID_SELF, 1, 0, 0, 0, 0)).toBe(0);
    expect([out(2), out(4) & 0xffff]).toEqual([2, 0]);
  });

  it('return the errors that Xen returns', () => {
    expect(op(4, 5)).toBe(-EINVAL);
    expect(op(4, 70)).toBe(-EINVAL);
    expect(op(3, 0)).toBe(-EINVAL);
    expect(op(3, 9)).toBe(-EINVAL);
    expect(op(9, 64)).toBe(-EINVAL);
    expect(op(5, DOMID_SELF, 64, 0, 0, 0, 0)).toBe(-EINVAL);
    expect(op(5, 0, 1, 0, 0, 0, 0)).toBe(-EPERM);
    expect(op(5, 9, 1, 0, 0, 0, 0)).toBe(-ESRCH);
    expect(op(0, 0, 1, 0)).toBe(-EINVAL);
    expect(op(0, 9, 1, 0)).toBe(-ESRCH);
    expect(op(1, 24, 0)).toBe(-EINVAL);
    expect(op(1, 3, 1)).toBe(-EINVAL);
    expect(op(1, 0, 2)).toBe(-ENOENT);
    expect(op(1, 0, 1)).toBe(0);
    expect(op(1, 0, 1)).toBe(-EEXIST);
    expect(op(7, 2)).toBe(-ENOENT);
    expect(op(2, 16, 0)).toBe(-EPERM);
    expect(op(2, 1000, 0)).toBe(-EINVAL);
    // Of the FIFO ABI Xen checks the arguments before it reports that the ABI is missing.
    expect(op(11, 0, 0, 0, 0, 0, 0)).toBe(-EINVAL);
    expect(op(11, mfn(0x80), 0, 0, 0, 0, 0)).toBe(-ENOSYS);
    expect(op(11, mfn(0x80), 0, 0, 9, 0, 0)).toBe(-ENOENT);
    expect(op(99)).toBe(-ENOSYS);
    expect(c.call(32, 4, HOLE)).toBe(-EFAULT);
  });

  it('may be moved to another vCPU unless they are bound to one', () => {
    allocUnbound();
    expect(op(8, 3, 1)).toBe(0);
    expect(op(5, DOMID_SELF, 3, 0, 0, 0, 0)).toBe(0);
    expect(out(3)).toBe(1);
    expect(op(8, 3, 2)).toBe(-ENOENT);
    expect(op(1, 0, 1)).toBe(0);
    expect(op(8, out(2), 0)).toBe(-EINVAL);
    expect(op(7, 1)).toBe(0);
    expect(op(8, out(1), 0)).toBe(-EINVAL);
  });

  it('are all closed by a reset', () => {
    allocUnbound();
    op(1, 0, 0);
    expect(op(10, DOMID_SELF)).toBe(0);
    expect(op(1, 0, 0)).toBe(0);
    expect(out(2)).toBe(1);
  });

  it('set the pending, selector and upcall bits only where they are not masked', () => {
    const { state } = c.guest.domain;
    const shared = (offset: number): number => state.mem.getU32(state.sharedInfo + offset);
    op(7, 0);
    const port = out(1);
    state.mem.setU32(state.sharedInfo + 2560, 1 << port);
    op(4, port);
    expect([shared(2048), shared(8), shared(0) & 0xff]).toEqual([1 << port, 0, 0]);
    expect(op(9, port)).toBe(0);
    expect([shared(2560), shared(8), shared(0) & 0xff]).toEqual([0, 1, 1]);
  });
});
