/** Any Linux without Xen: outer values are invented, clocks are the kernel's, disks and networks are files and sockets. */
import type { DiskSpec } from '../../protocol/guest-config.js';
import type { DomId, Port } from '../../xen/types.js';
import { FileImages } from '../disk/images.js';
import type { Host, HostClock, HostIdentity } from '../host.js';
import type {
  HostGrant,
  HostPlatform,
  HostReach,
  HostSurroundings,
  OuterValues,
  PlatformModule,
  PlatformSettings,
} from '../platform.js';
import { standaloneClock, suspendListener } from './clock.js';
import { standaloneLinks } from './links.js';
import { inventOuterValues } from './outer-values.js';
import { standaloneReach } from './reach.js';
import { defaultSettings, pretendedBy, readSettings, type StandaloneSettings } from './settings.js';
import { openSingleHost } from './single-host.js';
import { HostXenstore } from './toolstack-store.js';

class StandalonePlatform implements HostPlatform {
  readonly kind = 'standalone';
  readonly identity: HostIdentity;
  readonly clock: HostClock;
  readonly pretended: HostPlatform['pretended'];
  readonly domids: HostPlatform['domids'];
  readonly settings: PlatformSettings;
  readonly images: FileImages;
  private store: HostXenstore | undefined;

  constructor(
    hostName: string,
    private readonly own: StandaloneSettings,
  ) {
    const { xenVersion, cpuModel, firstDomid, maxDomid } = own;
    this.settings = { ...own };
    this.images = new FileImages(own.images, own.backing);
    this.identity = { name: hostName, xenVersion, cpuModel };
    this.clock = standaloneClock(own);
    this.pretended = pretendedBy(own);
    this.domids = { first: firstDomid, last: maxDomid };
  }

  get toolstackStore(): HostXenstore {
    this.store ??= new HostXenstore();
    return this.store;
  }

  reach(disks: readonly DiskSpec[]): HostReach {
    return standaloneReach(disks, this.own.networks, (target) => this.images.pathOf(target));
  }

  allocate(): OuterValues {
    return inventOuterValues();
  }

  openHost(grant: HostGrant, { store, log }: HostSurroundings): Host {
    return {
      identity: this.identity,
      clock: this.clock,
      pretended: this.pretended,
      domid: grant.domid as DomId,
      storePort: grant.storePort as Port,
      consolePort: grant.consolePort as Port,
      storeFrame: grant.storeFrame,
      consoleFrame: grant.consoleFrame,
      store,
      links: standaloneLinks({ networks: this.own.networks, images: this.images.folders, log }),
      onChanged: suspendListener(),
    };
  }
}

export const platform: PlatformModule = {
  defaultSettings: () => ({ ...defaultSettings() }),
  open: (hostName, settings) => new StandalonePlatform(hostName, readSettings(settings)),
  openSingleHost,
};
