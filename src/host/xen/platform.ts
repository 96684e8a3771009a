/**
 * A real Xen: this process runs in a helper domain, which has one guest and no daemon. Its outer values are dom0's and
 * Xen's own, its disks and networks are the domain's.
 */
import { tuneEngine } from '../../os/tune-engine.js';
import type { PlatformModule } from '../platform.js';
import { PLACES } from './places.js';
import { XenHost } from './xen-host.js';

export const platform: PlatformModule = {
  defaultSettings: () => ({}),
  open: () => {
    throw new Error('platform xen is for the one guest of a helper domain: it has no daemon');
  },
  openSingleHost: async (_hostName, { networks, guestKib, own, places, log }) => {
    tuneEngine();
    return XenHost.open({ places: { ...PLACES, ...places }, networks, guestKib, own, log });
  },
};
