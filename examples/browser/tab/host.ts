/** The host of a guest in a tab: the browser's clocks, and nothing behind the guest's xenstore and devices. */
import type { Host, OuterKind } from '../../../src/host/host.js';
import type { DomId, Nanoseconds, Port } from '../../../src/xen/types.js';

/** Nobody gives these to a tab. */
const INVENTED: readonly OuterKind[] = [
  ...(['domid', 'ports', 'frames', 'xenVersion', 'cpuModel', 'tscKhz', 'xenstore'] as const),
];

export function tabHost(): Host {
  return {
    identity: { name: 'tab', xenVersion: '4.17.0', cpuModel: "the browser's processor" },
    pretended: new Set(INVENTED),
    clock: {
      uptime: () => Math.floor(performance.now() * 1e6) as Nanoseconds,
      wallClock: () => (Date.now() * 1e6) as Nanoseconds,
      tscKhz: 1_000_000,
    },
    domid: 1 as DomId,
    storePort: 1 as Port,
    consolePort: 2 as Port,
    storeFrame: 0,
    consoleFrame: 0,
    store: { write: () => undefined, onChange: () => undefined },
    links: {},
  };
}
