/** Hosts that agree only in the true time, and in the disk and network that they share. */
import type { DiskGeometry } from '../../src/devices/vbd/disk-link.js';
import type { Host, HostNode } from '../../src/host/host.js';
import { type Networks, vifLinks } from '../../src/host/net/networks.js';
import { monotonicNs } from '../../src/os/monotonic.js';
import type { DomId, Nanoseconds, Port } from '../../src/xen/types.js';
import { MemoryLink } from '../support/memory-disk.js';

/** True time that has passed although nobody waited for it, ns: the same for all hosts. */
export class World {
  passedNs = 0;
  readonly contents = new Uint8Array(16 << 20);

  /** True time, ns since 1970. */
  now(): number {
    return Date.now() * 1e6 + this.passedNs;
  }
}

/** A disk that answers after some milliseconds, or when the test tells it to. */
export class ScenarioDisk extends MemoryLink {
  constructor(
    contents: Uint8Array,
    geometry: Partial<DiskGeometry>,
    /** Undefined: it does not answer before `finish`. */
    private readonly answersAfterMs: number | undefined,
  ) {
    super(contents, geometry);
  }

  override commit(): void {
    if (this.answersAfterMs === undefined || this.taken.length === 0) return;
    setTimeout(() => {
      if (this.taken.length > 0) this.finish(this.taken.length);
    }, this.answersAfterMs);
  }
}

export interface HostWords {
  readonly name: string;
  readonly domid: number;
  readonly xenVersion: string;
  readonly tscKhz: number;
  /** What this host adds to this machine's uptime and wall clock, ns. */
  readonly uptimeNs?: number;
  readonly wallNs?: number;
  readonly networks: Networks;
  readonly geometry?: Partial<DiskGeometry>;
  readonly diskAnswersAfterMs?: number;
  readonly diskHolds?: boolean;
}

export class ScenarioHost implements Host {
  readonly identity;
  readonly clock;
  readonly links;
  readonly domid: DomId;
  readonly storePort: Port;
  readonly consolePort: Port;
  readonly storeFrame: number;
  readonly consoleFrame: number;
  readonly pretended: Host['pretended'] = new Set();
  /** What was written into this host's own xenstore: "PATH=VALUE". */
  readonly written: string[] = [];
  disk: ScenarioDisk | undefined;
  /** By how much this host's wall clock has been stepped, ns. */
  steppedNs = 0;
  readonly store = {
    write: (nodes: readonly HostNode[]): void => {
      for (const { path, value } of nodes) this.written.push(`${path}=${value}`);
    },
    onChange: (): void => undefined,
  };

  constructor(world: World, words: HostWords, log: (line: string) => void) {
    const { name, domid, uptimeNs = 0, wallNs = 0 } = words;
    this.identity = { name, xenVersion: words.xenVersion, cpuModel: `processor of ${name}` };
    this.clock = {
      uptime: () => Math.floor(monotonicNs() + uptimeNs + world.passedNs) as Nanoseconds,
      wallClock: () => (world.now() + wallNs + this.steppedNs) as Nanoseconds,
      tscKhz: words.tscKhz,
    };
    this.domid = domid as DomId;
    this.storePort = (domid + 20) as Port;
    this.consolePort = (domid + 30) as Port;
    this.storeFrame = 0x1000 + domid;
    this.consoleFrame = 0x2000 + domid;
    this.links = {
      vbd: async () => {
        const after = words.diskHolds === true ? undefined : (words.diskAnswersAfterMs ?? 1);
        this.disk = new ScenarioDisk(world.contents, words.geometry ?? {}, after);
        return this.disk;
      },
      vif: vifLinks(words.networks, log),
    };
  }
}
