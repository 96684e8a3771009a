/** The console's ring: output that was not shown yet, and typed bytes that were not taken yet. */

import type { Host } from '../../host/host.js';
import type { Guest } from '../guest.js';
import { type MigrationPoint, NOT_ATTACHED, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'console ring',
  rows: 'B',
  seen: 'the console page: four indices and two rings, at any byte',
  held: 'guest memory; typed bytes that did not fit yet are saved, and output goes on from the index where it stopped',
  proof: [
    'src/devices/console.test.ts: keeps typed bytes that the guest has not read over a save and restore',
    'test/e2e/moves.test.ts: GRUB at its prompt',
  ],
};

export class ConsoleRing implements MigrationPoint {
  readonly name = about.name;
  readonly about = about;
  readonly gives = 'frames';
  private host: Host | undefined;

  constructor(private readonly guest: Guest) {}

  inner(): string {
    return `0x${this.guest.domain.engine.ram.mfnOf(this.guest.container.consolePfn).toString(16)}`;
  }
  outer(): string {
    return this.host === undefined ? NOT_ATTACHED : `0x${this.host.consoleFrame.toString(16)}`;
  }
  async attach(host: Host): Promise<void> {
    this.host = host;
  }
  async detach(): Promise<void> {
    this.host = undefined;
  }
  save(): Uint8Array {
    return this.guest.console.save();
  }
  restore(record: Uint8Array): void {
    this.guest.console.restore(record);
  }
}
