/**
 * What a back end may do with its guest, in the role of domain 0. `Backend` of the hypervisor is the real one; a
 * ring driver without a guest (benches, hostile tests) has its own.
 */
import type { LinearMemory } from '../xen/memory.js';
import type { Port } from '../xen/types.js';

export interface GuestAccess {
  readonly mem: LinearMemory;
  /** Takes the far end of a port that the guest opened for domain 0. 0, or a negative errno. */
  bindBackend(port: Port, onNotify: () => void): number;
  unbindBackend(port: Port): void;
  /** Raises the guest's port. */
  notify(port: Port): void;
  /** Maps a granted page: its linear address, or a negative GNTST_ status. */
  grantMap(ref: number, write: boolean): number;
  /** Linear address of a grant that is mapped already, as after a restore; negative if it is not mapped. */
  grantMapped(ref: number): number;
  grantUnmap(ref: number, write: boolean): void;
  /** Says that host code wrote into the page at `linear`: dirty log, decoded code. */
  touch(linear: number): void;
}
