/** No cable: the vif exists but reaches nobody. */
import type { NetLink } from '../link.js';

export class NoLink implements NetLink {
  readonly name = 'none';
  readonly offloads = true;
  readonly writable = true;
  readonly up = false;
  send(): void {}
  flush(): void {}
  setReading(): void {}
  async close(): Promise<void> {}
}
