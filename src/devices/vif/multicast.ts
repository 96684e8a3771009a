/** Which multicast groups the guest wants frames from, once it has asked to control that. */
import { BROADCAST, isGroup, readMac } from '../../net/mac.js';

/** The same limit as in netback (XEN_NETBK_MCAST_MAX). */
const MAX_GROUPS = 64;

export class MulticastFilter {
  /** While this is false, frames of every group pass. */
  enabled = false;
  readonly groups = new Set<number>();

  /** Returns false if there are already too many groups. */
  add(mac: number): boolean {
    if (this.groups.size >= MAX_GROUPS && !this.groups.has(mac)) return false;
    this.groups.add(mac);
    return true;
  }
  remove(mac: number): void {
    this.groups.delete(mac);
  }
  passes(frame: Uint8Array): boolean {
    if (!this.enabled || !isGroup(frame, 0)) return true;
    const to = readMac(frame, 0);
    return to === BROADCAST || this.groups.has(to);
  }
}
