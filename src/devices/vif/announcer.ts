/**
 * Says where the guest is now, for a guest that does not know that it moved: by RARP, and by the addresses that were
 * seen in its own frames. Repeated, until bridges and switches on the way forward (STP, LACP).
 */
import { announcements, SnoopedAddresses } from '../../net/announce.js';
import { plainFrame } from '../../net/frame.js';
import type { NetLink } from '../../net/link.js';
import type { Alarms } from './alarms.js';

/** When, in ms after the guest runs here. */
const AT_MS = [0, 100, 300, 700, 1500, 3000];

export class Announcer {
  addresses: SnoopedAddresses;
  /** To be done when guest and link are both ready. */
  due = false;

  constructor(private readonly mac: number) {
    this.addresses = new SnoopedAddresses(mac);
  }

  restore(addresses: Uint8Array[]): void {
    this.addresses = new SnoopedAddresses(this.mac, addresses);
    this.due = true;
  }

  /** Now and a few times more. */
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
