/**
 * What our back ends (console, xenstore, disks, networks) may do with the guest, in the role of domain 0.
 *
 * Invariant: guest memory is accessed only through grants, which are checked when they are mapped, and a linear
 * address stays valid until its grant is unmapped. A guest that provides a bad grant gets an error in its ring and
 * harms only itself.
 */
import type { LinearMemory } from '../xen/memory.js';
import type { Port } from '../xen/types.js';
import type { EventState } from './events/event-channels.js';
import type { GrantState } from './grants/grant-table.js';
import type { MemoryState } from './mmu/mmu-state.js';

/** The domain that back ends represent. */
export const BACKEND_DOMID = 0;

export class Backend {
  readonly mem: LinearMemory;
  /** Called when a port was raised, because a sleeping guest may have to run. */
  onNotify: () => void = () => undefined;

  constructor(private readonly d: MemoryState & EventState & GrantState) {
    this.mem = d.mem;
  }

  /** Binds to the port that the guest opened for domain 0. Returns 0, or a negative errno. */
  bindBackend(port: Port, onNotify: () => void): number {
    return this.d.events.bindBackend(port, BACKEND_DOMID, onNotify);
  }

  unbindBackend(port: Port): void {
    this.d.events.unbindBackend(port);
  }

  /** Raises the guest's port. */
  notify(port: Port): void {
    this.d.events.setPending(port);
    this.onNotify();
  }

  /** Maps a granted page. Returns its linear address, or a negative GNTST_ status. */
  grantMap(ref: number, write: boolean): number {
    const frame = this.d.grants.acquire(ref, BACKEND_DOMID, write, true);
    return frame < 0 ? frame : this.d.ram.linearOf(frame);
  }

  /** The linear address of a grant that is already mapped, as it is after a restore; -1 if it is not mapped. */
  grantMapped(ref: number): number {
    return this.d.grants.isPinned(ref) ? this.d.ram.linearOf(this.d.grants.pinnedFrame(ref)) : -1;
  }

  grantUnmap(ref: number, write: boolean): void {
    this.d.grants.release(ref, write);
  }

  /** To be called after host code has written into the page at `linear`. */
  touch(linear: number): void {
    this.d.engine.touch(linear);
  }
}
