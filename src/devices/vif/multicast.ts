/** Which groups' frames the guest wants, once it asked for control over that. */
import { BROADCAST, isGroup, readMac } from '../../net/mac.js';

/** As many as netback keeps (XEN_NETBK_MCAST_MAX). */
const MAX_GROUPS = 64;

export class MulticastFilter {
  /** Off: every group passes. */
  enabled = false;
  readonly groups = new Set<number>();

  /** False when there are too many. */
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
