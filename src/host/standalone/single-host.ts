/** A host for one guest without a daemon. It has the machine's own clocks, and nobody reads its xenstore. */
import { cpus } from 'node:os';
import { tuneEngine } from '../../os/tune-engine.js';
import type { DomId, Port } from '../../xen/types.js';
import type { Host } from '../host.js';
import { standaloneClock } from './clock.js';
import { type LinkOptions, standaloneLinks } from './links.js';

export function hostAlone(
  name: string,
  links: LinkOptions = { networks: {}, log: (line) => process.stderr.write(`${line}\n`) },
): Host {
  tuneEngine();
  const [cpu] = cpus();
  return {
    identity: { name, xenVersion: '4.17.0', cpuModel: cpu?.model ?? 'unknown' },
    clock: standaloneClock({ uptimeS: 0, wallClockS: 0, tscKhz: (cpu?.speed ?? 0) * 1000 }),
    domid: 1 as DomId,
    storePort: 1 as Port,
    consolePort: 2 as Port,
    storeFrame: 0,
    consoleFrame: 0,
    store: { write: () => {}, onChange: () => {} },
    links: standaloneLinks(links),
  };
}
