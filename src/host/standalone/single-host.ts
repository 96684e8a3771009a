/** A host for one guest without a daemon. It has the machine's own clocks, and nobody reads its xenstore. */
import { tuneEngine } from '../../os/tune-engine.js';
import type { DomId, Port } from '../../xen/types.js';
import type { Host } from '../host.js';
import { standaloneClock, suspendListener } from './clock.js';
import { type LinkOptions, standaloneLinks } from './links.js';
import { defaultSettings, pretendedBy } from './settings.js';

export function openSingleHost(
  name: string,
  links: LinkOptions = { networks: {}, log: (line) => process.stderr.write(`${line}\n`) },
): Host {
  tuneEngine();
  const settings = defaultSettings();
  return {
    identity: { name, xenVersion: settings.xenVersion, cpuModel: settings.cpuModel },
    pretended: pretendedBy(settings),
    clock: standaloneClock(settings),
    domid: 1 as DomId,
    storePort: 1 as Port,
    consolePort: 2 as Port,
    storeFrame: 0,
    consoleFrame: 0,
    store: { write: () => {}, onChange: () => {} },
    links: standaloneLinks(links),
    onChanged: suspendListener(),
  };
}
