/**
 * One guest, whole: its domain, its own xenstore and its console, wired together. Everything in here is the
 * guest's for its whole power cycle; what a host gives comes in through DomainHost and the console's sink.
 */
import { ConsoleBackend, type ConsoleSink } from '../devices/console.js';
import { GuestStore } from '../devices/xenstore.js';
import { buildDomain, type GuestImage, loadImage } from '../guest/builder.js';
import { domainTree } from '../guest/domain-tree.js';
import { Domain, type DomainHost, type DomainRun } from '../hypervisor/domain.js';
import { virtualXen417 } from '../hypervisor/identity.js';
import { MFN_BASE, PAGE } from '../machine/machine.js';
import type { DomId } from '../xen/types.js';

/** The domain id that every guest sees of itself, on every host. */
export const INNER_DOMID = 1 as DomId;

export interface GuestSpec {
  readonly name: string;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  readonly memoryMib: number;
  readonly vcpus: number;
  readonly image: GuestImage;
  /** Names of the files, for the xenstore's /vm node. */
  readonly kernelName: string;
  readonly ramdiskName: string;
  /** Time counts instructions, so many ns each; undefined: it follows the host. */
  readonly nsPerInstruction?: number;
}

const uuidText = (uuid: Uint8Array): string =>
  Array.from(uuid, (b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

export class Guest {
  private constructor(
    readonly domain: Domain,
    readonly store: GuestStore,
    readonly console: ConsoleBackend,
  ) {}

  /** Builds a guest in a new container, ready to start. Throws KernelError on a bad kernel. */
  static async powerOn(spec: GuestSpec, host: DomainHost, sink: ConsoleSink): Promise<Guest> {
    const image = await loadImage(spec.image);
    const memoryFrames = spec.memoryMib * 256;
    const domain = await Domain.create(
      {
        domid: INNER_DOMID,
        uuid: spec.uuid,
        vcpus: spec.vcpus,
        memoryFrames,
        maxFrames: memoryFrames,
        memoryMap: [{ start: 0, bytes: memoryFrames * PAGE, type: 1 }],
        identity: virtualXen417(spec.vcpus),
        nsPerInstruction: spec.nsPerInstruction,
      },
      host,
    );
    domain.prepare();
    const built = buildDomain({ ...domain.buildTarget, mfnBase: MFN_BASE }, image);
    domain.powerOn(built);

    const { backend, storePort, consolePort, machine } = domain;
    const page = (pfn: number): number => machine.framesBase + pfn * PAGE;
    const shared = (pfn: number, port: number) => ({
      mem: machine.mem,
      page: page(pfn),
      touch: (linear: number) => backend.touch(linear),
      notify: () => backend.notify(port as typeof storePort),
    });
    const nodes = domainTree({
      domid: INNER_DOMID,
      name: spec.name,
      uuid: uuidText(spec.uuid),
      vcpus: spec.vcpus,
      staticMaxKib: spec.memoryMib * 1024,
      targetKib: spec.memoryMib * 1024,
      storePort,
      storeRingRef: MFN_BASE + built.storePfn,
      consolePort,
      consoleRingRef: MFN_BASE + built.consolePfn,
      consoleTty: '',
      kernel: spec.kernelName,
      ramdisk: spec.ramdiskName,
      cmdline: spec.image.cmdline,
      startTime: (host.wallClock() / 1e9).toFixed(2),
    });
    const store = GuestStore.create(
      { ...shared(built.storePfn, storePort), domid: INNER_DOMID, port: storePort },
      nodes,
    );
    const console = new ConsoleBackend(shared(built.consolePfn, consolePort), sink);
    backend.bindBackend(storePort, () => store.service());
    backend.bindBackend(consolePort, () => console.service());
    return new Guest(domain, store, console);
  }

  start(): void {
    this.domain.start();
  }

  /** Runs the guest for at most `limitNs` of its time. */
  run(limitNs: number): DomainRun {
    return this.domain.run(limitNs);
  }
}
