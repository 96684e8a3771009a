/**
 * A platform for tests: disks in the memory of guests' processes, a xenstore that only records nodes, and outer values
 * that are computed from the domain id. It needs no root, no disk files and no network. A daemon and its guests'
 * processes load it by its URL, as "platform" in a host's configuration.
 */
import type * as v from 'valibot';
import { compiled } from '../../scripts/lib/root.js';
import type { DiskLink } from '../../src/devices/vbd/disk-link.js';
import type { DomainTreeInput } from '../../src/guest/domain-tree.js';
import type { Host, HostNode, OuterKind } from '../../src/host/host.js';
import type {
  FilledImages,
  GivenAccess,
  HostImages,
  IncomingImage,
  ReceivedImage,
  TravellingImage,
} from '../../src/host/images.js';
import type {
  DomainRelay,
  HostGrant,
  HostPlatform,
  HostSurroundings,
  OuterValues,
  PlatformModule,
  PlatformSettings,
  ToolstackStore,
} from '../../src/host/platform.js';
import { check } from '../../src/protocol/check.js';
import { Failure } from '../../src/protocol/failure.js';
import { type DiskSpec, readDiskSpec } from '../../src/protocol/guest-config.js';
import { fields, text, whole } from '../../src/protocol/shapes.js';
import type { DomId, Nanoseconds, Port } from '../../src/xen/types.js';
import { MemoryLink } from './memory-disk.js';

export const FAKE_PLATFORM = compiled('test/support/fake-platform.ts').href;

/** The prefix of disks in memory, as configurations name them. */
const FOLDER = '/memory/';
const DISK_BYTES = 1 << 20;
const ALL: readonly OuterKind[] = [
  'domid',
  'ports',
  'frames',
  'xenVersion',
  'cpuModel',
  'tscKhz',
  'uptime',
  'wallClock',
  'xenstore',
];

const fakeSettings = fields({ xenVersion: text(256), firstDomid: whole(1, 0x7fef) });
type FakeSettings = v.InferOutput<typeof fakeSettings>;

/** A disk in this process's memory. */
export class MemoryDisk extends MemoryLink {
  constructor(
    readonly target: string,
    contents: Uint8Array,
  ) {
    super(contents, {}, true);
  }
}

/** The disks of this process's guest, by target. */
const disks = new Map<string, Uint8Array>();

/** Records the nodes that the toolstack writes, for tests to inspect. */
export class FakeStore implements ToolstackStore {
  readonly domains = new Map<number, DomainTreeInput>();
  readonly devices = new Set<string>();
  readonly written = new Map<string, string>();

  addDomain(domain: DomainTreeInput): void {
    this.domains.set(domain.domid, domain);
  }
  rename(domid: number, _uuid: string, name: string): void {
    const domain = this.domains.get(domid);
    if (domain !== undefined) this.domains.set(domid, { ...domain, name });
  }
  removeDomain(domid: number): void {
    this.domains.delete(domid);
  }
  addDevice(domid: number, { kind, devid }: { readonly kind: string; readonly devid: number }): void {
    this.devices.add(`${domid}/${kind}/${devid}`);
  }
  removeDevice(domid: number, kind: string, devid: number): void {
    this.devices.delete(`${domid}/${kind}/${devid}`);
  }
  set(domid: number, path: string, value: string): void {
    this.written.set(`${domid}/${path}`, value);
  }
  relay(domid: number): DomainRelay {
    return {
      write: (nodes: readonly HostNode[]) => {
        for (const { path, value } of nodes) this.written.set(`${domid}/${path}`, value ?? '');
        return [];
      },
    };
  }
}

class FakeImages implements HostImages {
  named(specs: readonly DiskSpec[]): string[] {
    return specs.map(({ target }) => target);
  }
  check(specs: readonly DiskSpec[]): void {
    for (const { target } of specs)
      if (!target.startsWith(FOLDER)) throw new Failure('not-trusted', `${target} is no disk in memory`);
  }
  async checkBeneath(): Promise<void> {}
  async give(): Promise<void> {}
  async giveIncoming(): Promise<void> {}
  async keep(_uid: number, given: readonly GivenAccess[]): Promise<GivenAccess[]> {
    return [...given];
  }
  async takeBack(): Promise<void> {}
  isOf(): boolean {
    return false;
  }
  lend(): null {
    return null;
  }
  takeBackLent(): void {}
  lentFile(): string {
    return '';
  }
  travelling(specs: readonly DiskSpec[], bytes: (devid: number) => number): TravellingImage[] {
    return specs.map(({ virtualDevice: devid, target, format, readOnly }) => {
      return { devid, target, path: target, ino: devid, format, readOnly, bytes: bytes(devid) };
    });
  }
  expect(announced: unknown): IncomingImage[] {
    return (announced as IncomingImage[]).map((image) => ({ ...image, path: image.target }));
  }
  mustBeOf(): void {}
  async make(): Promise<void> {}
  name(): void {}
  settle(): void {}
  discard(): void {}
  retire(): void {}
  foundAt(): void {}
  fill(images: readonly ReceivedImage[]): FilledImages {
    const of = (devid: number): Uint8Array => {
      const { path, bytes } = images.find((image) => image.devid === devid)!;
      const contents = disks.get(path) ?? new Uint8Array(bytes);
      disks.set(path, contents);
      return contents;
    };
    return {
      begin: async (devid) => void of(devid),
      write: async (devid, at, bytes, data) =>
        void (data === undefined ? of(devid).fill(0, at, at + bytes) : of(devid).set(data, at)),
      flush: async () => {},
      close: async () => {},
    };
  }
}

async function openDisk(spec: DiskSpec): Promise<DiskLink> {
  const { target } = spec;
  if (!target.startsWith(FOLDER)) throw new Error(`${target} is no disk in memory`);
  const contents = disks.get(target) ?? new Uint8Array(DISK_BYTES);
  disks.set(target, contents);
  return new MemoryDisk(target, contents);
}

class FakePlatform implements HostPlatform {
  readonly kind = FAKE_PLATFORM;
  readonly pretended = new Set(ALL);
  readonly toolstackStore = new FakeStore();
  readonly images = new FakeImages();
  readonly identity;
  readonly domids;
  readonly settings: PlatformSettings;
  readonly clock = {
    tscKhz: 1_234_567,
    uptime: () => Math.floor(performance.now() * 1e6) as Nanoseconds,
    wallClock: () => (Date.now() * 1e6) as Nanoseconds,
  };

  constructor(name: string, settings: FakeSettings) {
    this.settings = { ...settings };
    this.identity = { name, xenVersion: settings.xenVersion, cpuModel: 'a processor of the tests' };
    this.domids = { first: settings.firstDomid, last: 0x7fef };
  }

  allocate(domid: number): OuterValues {
    const [storeFrame, consoleFrame] = [0xfa_0000 + domid, 0xfb_0000 + domid];
    return { storePort: 1000 + domid, consolePort: 2000 + domid, storeFrame, consoleFrame };
  }
  reach() {
    return { writable: [], readable: [], sockets: [], longestFile: 0 };
  }
  openHost(grant: HostGrant, { store }: HostSurroundings): Host {
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
      links: { vbd: (_devid, spec) => openDisk(readDiskSpec(spec)) },
    };
  }
}

export const platform: PlatformModule = {
  defaultSettings: () => ({ xenVersion: '4.17.0', firstDomid: 1 }),
  open: (hostName, settings) => new FakePlatform(hostName, check(fakeSettings, settings, 'settings')),
  openSingleHost: () => {
    throw new Error('a platform for daemons only');
  },
};
