/** A whole guest with the small observing kernel, on hosts whose clocks and xenstore a test controls. */

import { smallKernelElf } from '../../src/demo/small-kernel.js';
import type { HostLinks } from '../../src/devices/links.js';
import { wasmEngine } from '../../src/engine/engines.js';
import type { DeviceConfig, DeviceKind } from '../../src/helper/devices.js';
import { Guest, type GuestSpec } from '../../src/helper/guest.js';
import type { ClockPolicy, OutageBounds, OutageTerms } from '../../src/helper/points/outage.js';
import type { Host, HostNode, OuterKind } from '../../src/host/host.js';
import type { DomId, Nanoseconds, Port } from '../../src/xen/types.js';

/** A host with clocks that stand still until the test advances them. */
export class TestHost implements Host {
  readonly identity;
  uptimeNs = 0;
  wallNs = 0;
  readonly written = new Map<string, string | null>();
  listener: ((node: HostNode) => void) | undefined;
  readonly storePort = 11 as Port;
  readonly consolePort = 12 as Port;
  readonly storeFrame = 0x1000;
  readonly consoleFrame = 0x1001;
  /** The clock of the kernel under the guest's process. */
  suspendedNs = 0;
  changed: ((moved: boolean) => void) | undefined;
  readonly clock = {
    uptime: () => (this.uptimeNs + this.suspendedNs) as Nanoseconds,
    awake: () => this.uptimeNs as Nanoseconds,
    suspended: () => this.suspendedNs as Nanoseconds,
    wallClock: () => this.wallNs as Nanoseconds,
    tscKhz: 2_000_000,
  };
  readonly store = {
    write: (nodes: readonly HostNode[]): void => {
      for (const { path, value } of nodes) this.written.set(path, value);
    },
    onChange: (listener: ((node: HostNode) => void) | undefined): void => {
      this.listener = listener;
    },
  };
  domid: DomId;
  readonly onChanged = (listener: ((moved: boolean) => void) | undefined): void => {
    this.changed = listener;
  };
  /** A test may declare that the host invents some of its values. */
  pretended: ReadonlySet<OuterKind> = new Set();

  constructor(
    name: string,
    domid: number,
    readonly links: HostLinks = {},
  ) {
    this.identity = { name, xenVersion: '4.14.0', cpuModel: `${name}'s processor` };
    this.domid = domid as DomId;
  }

  /** The kernel under the guest's process is suspended: CLOCK_MONOTONIC stands still. */
  suspend(ns: number): void {
    this.suspendedNs += ns;
    this.wallNs += ns;
  }

  pass(ns: number): void {
    this.uptimeNs += ns;
    this.wallNs += ns;
  }
}

export interface TestGuestOptions {
  readonly clock?: ClockPolicy;
  readonly vcpus?: number;
  /** What the guest's wall clock is ahead of true time, s. */
  readonly clockOffsetS?: number;
  readonly grantFrames?: number;
  readonly xenstoreQuotas?: GuestSpec['xenstoreQuotas'];
  /** Time follows the host's clock, which stands still while the guest runs; for a guest that is not run. */
  readonly hostTime?: boolean;
  readonly devices?: readonly DeviceConfig[];
  readonly deviceKinds?: Readonly<Record<string, DeviceKind>>;
  readonly unplugged?: (kind: string, devid: number) => void;
  readonly woken?: () => void;
  readonly moved?: () => void;
  /** The kernel to use in place of the small observing one. */
  readonly kernel?: Uint8Array;
}

export class TestGuest {
  output = '';
  private constructor(
    readonly guest: Guest,
    readonly host: TestHost,
    private readonly options: TestGuestOptions,
  ) {}

  private static around(options: TestGuestOptions, show: (text: string) => void) {
    return {
      engine: wasmEngine(),
      console: (bytes: Uint8Array) => {
        show(new TextDecoder('latin1').decode(bytes));
        return true;
      },
      log: () => {},
      wake: options.woken ?? (() => {}),
      moved: options.moved,
      deviceKinds: options.deviceKinds ?? {},
      unplugged: options.unplugged,
    };
  }

  /** A guest that is powered on and attached, but not started. */
  static async on(host: TestHost, options: TestGuestOptions = {}): Promise<TestGuest> {
    let made: TestGuest | undefined;
    const guest = await Guest.powerOn(
      {
        name: 'small',
        uuid: new Uint8Array(16).fill(7),
        memoryMib: 8,
        vcpus: options.vcpus ?? 1,
        image: {
          kernel: options.kernel ?? smallKernelElf(),
          ramdisk: undefined,
          cmdline: 'interval_ms=10',
        },
        kernelName: 'small',
        ramdiskName: '',
        clock: options.clock,
        clockOffsetS: options.clockOffsetS,
        grantFrames: options.grantFrames,
        xenstoreQuotas: options.xenstoreQuotas,
        devices: options.devices,
        nsPerInstruction: options.hostTime === true ? 0 : 1,
      },
      host,
      TestGuest.around(options, (text) => {
        if (made) made.output += text;
      }),
    );
    made = new TestGuest(guest, host, options);
    await guest.attach();
    return made;
  }

  /** The same guest on another host, attached but not started: as after a move, without a stream. */
  async arriveOn(host: TestHost, terms?: OutageTerms, bounds?: OutageBounds): Promise<TestGuest> {
    const record = this.guest.saveState(terms);
    let made: TestGuest | undefined;
    const guest = await Guest.empty(
      this.guest.describe(),
      host,
      TestGuest.around(this.options, (text) => {
        if (made) made.output += text;
      }),
    );
    guest.ram.set(this.guest.ram);
    guest.restoreState(record, bounds);
    made = new TestGuest(guest, host, this.options);
    await guest.attach();
    await this.guest.detach();
    return made;
  }

  /** Runs for `ns`, with time that counts instructions, so that every run is the same. */
  run(ns: number): void {
    const until = this.guest.domain.clock.now() + ns;
    for (let now = until - ns; now < until; now = this.guest.domain.clock.now()) this.guest.run(until - now);
    this.host.pass(ns);
  }

  /** Returns what the kernel's last line says. */
  latest(): { n: number; mono: number; gap: number; back: number; diff: number } {
    const lines = [
      ...this.output.matchAll(/OBS (?:n|VERDICT n)=(\d+) .*mono=(\d+) .*gap=(-?\d+) back=(\d+) diff=(\d+)/g),
    ];
    const [n, mono, gap, back, diff] = (lines.at(-1) ?? []).slice(1).map(Number);
    return { n, mono, gap, back, diff };
  }
  type(text: string): void {
    this.guest.console.type(new TextEncoder().encode(text));
  }
}
