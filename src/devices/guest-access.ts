/**
 * What a back end may do with its guest, in the role of domain 0. The hypervisor's `Backend` implements it for a real
 * guest; benches and tests with hostile rings have an implementation without a guest.
 */
import type { LinearMemory } from '../xen/memory.js';
import type { Port } from '../xen/types.js';

export interface GuestAccess {
  readonly mem: LinearMemory;
  /** Binds to the port that the guest opened for domain 0. Returns 0, or a negative errno. */
  bindBackend(port: Port, onNotify: () => void): number;
  unbindBackend(port: Port): void;
  /** Raises the guest's port. */
  notify(port: Port): void;
  /** Maps a granted page. Returns its linear address, or a negative GNTST_ status. */
  grantMap(ref: number, write: boolean): number;
  /**
   * Returns the linear address of a grant that is already mapped, as it is after a restore; a negative number if it
   * is not.
   */
  grantMapped(ref: number): number;
  grantUnmap(ref: number, write: boolean): void;
  /**
   * To be called after host code has written into the page at `linear`: it marks the page dirty for a migration and
   * drops code that was decoded from it.
   */
  touch(linear: number): void;
}
