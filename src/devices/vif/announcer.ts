/**
 * Announces the guest's new location to the network after a move, because the guest does not know that it has moved.
 * It sends a RARP frame, and one frame for each IP address that was seen in the guest's own frames. It repeats them,
 * because bridges and switches on the way (STP, LACP) may not forward yet.
 */
import { announcements, SnoopedAddresses } from '../../net/announce.js';
import { plainFrame } from '../../net/frame.js';
import type { NetLink } from '../../net/link.js';
import type { Alarms } from './alarms.js';

/** When the announcements are sent, in ms after the guest has started to run here. */
const AT_MS = [0, 100, 300, 700, 1500, 3000];

export class Announcer {
  addresses: SnoopedAddresses;
  /** True if the announcements have to be sent as soon as both guest and link are ready. */
  due = false;

  constructor(private readonly mac: number) {
    this.addresses = new SnoopedAddresses(mac);
  }

  restore(addresses: Uint8Array[]): void {
    this.addresses = new SnoopedAddresses(this.mac, addresses);
    this.due = true;
  }

  /** Sends the announcements now and at the later times of AT_MS. */
  begin(link: NetLink, alarms: Alarms): void {
    this.due = false;
    for (const ms of AT_MS) alarms.after(ms, () => this.once(link));
  }

  private once(link: NetLink): void {
    if (!link.up) return;
    for (const bytes of announcements(this.mac, this.addresses.addresses)) link.send(plainFrame(bytes));
    link.flush();
  }
}
