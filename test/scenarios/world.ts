/** One real Linux with a disk and a network, and the hosts between which it is moved: the basis of all scenarios. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Guests } from '../../scripts/lib/guests.js';
import { GATEWAY, GUEST_ADDRESS, Passt, SMALL_WINDOW } from '../../scripts/lib/passt.js';
import { writeCpio } from '../../src/appliance/cpio.js';
import { memoryWriterElf } from '../../src/demo/memory-writer.js';
import { observerElf } from '../../src/demo/observer.js';
import type { Vif } from '../../src/devices/vif/vif.js';
import type { OutageBounds, OutageTerms } from '../../src/helper/points/outage.js';
import { parseLinkAddress } from '../../src/net/links/address.js';
import { openLink } from '../../src/net/links/open-link.js';
import { SwitchServer } from '../../src/net/links/switch-server.js';
import { diskConfig, networkConfig } from '../support/devices.js';
import { LinuxGuest } from '../support/linux-guest.js';
import { NetPeer } from '../support/net-peer.js';
import { type HostWords, ScenarioHost, World } from './host.js';
import { clocksElf, evtchnElf, nowElf } from './programs.js';

export const PEER = '10.0.2.77';
export const MAC = '00:16:3e:00:00:01';
/** A kernel option that disables the code for suspend requests. */
const WILD = 'initcall_blacklist=xen_setup_shutdown_event';

export interface MoveTerms extends OutageTerms {
  /** How long the guest stands still, ns. */
  readonly outageNs?: number;
  /** If true, the destination knows how long the guest stood still, as when the stream comes from a host. */
  readonly outageAsSeen?: boolean;
}

export class ScenarioWorld {
  readonly world = new World();
  readonly log: string[] = [];
  readonly a: ScenarioHost;
  readonly b: ScenarioHost;
  at: ScenarioHost;

  private constructor(
    readonly directory: string,
    readonly passt: Passt,
    readonly fabric: SwitchServer,
    readonly peer: NetPeer,
    private readonly socket: string,
  ) {
    this.a = this.host({ name: 'A', domid: 5, xenVersion: '4.14.1', tscKhz: 3_100_000 });
    // This host has a lower uptime, is slower, and its disk has fewer features.
    this.b = this.host({
      name: 'B',
      domid: 400,
      xenVersion: '4.19.0',
      tscKhz: 1_900_000,
      uptimeNs: -1e12,
      geometry: { discard: undefined, physicalSectorBytes: 4096 },
    });
    this.at = this.a;
  }
  guest!: LinuxGuest;
  /** Its kernel's log up to the shell; the log is emptied then. */
  bootLog = '';
  /** By how much its wall clock has been late since its boot, ns: until it has its clock source it counts ticks. */
  lateNs = 0;

  static async open(files: Guests): Promise<ScenarioWorld> {
    const directory = mkdtempSync(join(tmpdir(), 'stillpoint-scenario-'));
    const socket = join(directory, 'switch');
    const passt = await Passt.start();
    const fabric = new SwitchServer(() => undefined);
    await fabric.listen({ path: socket }, 0o600);
    await fabric.uplink((client) =>
      openLink(parseLinkAddress(`passt:${passt.socket}`), client, () => undefined),
    );
    const peer = await NetPeer.connect(socket, '02:00:00:00:00:77', PEER);
    const scenario = new ScenarioWorld(directory, passt, fabric, peer, socket);
    scenario.guest = await LinuxGuest.boot('scenario', files, scenario.a, {
      vcpus: 2,
      memoryMib: 128,
      extra: WILD,
      ramdisk: Buffer.concat([
        gunzipSync(readFileSync(files.initramfs)),
        writeCpio(
          Object.entries({
            observer: observerElf(),
            writer: memoryWriterElf(),
            now: nowElf(),
            clocks: clocksElf(),
            evtchn: evtchnElf(),
          }).map(([name, data]) => ({ path: `bin/${name}`, mode: 0o755, data })),
        ),
      ]),
      devices: [diskConfig('/scenario,raw,xvda,w'), networkConfig(`mac=${MAC}`)],
    });
    await scenario.guest.until(/guest# /, 600);
    await scenario.guest.command(
      `modprobe xen-evtchn; ifconfig eth0 ${GUEST_ADDRESS} up; route add default gw ${GATEWAY}; ` +
        `arp -s ${PEER} 02:00:00:00:00:77; ${SMALL_WINDOW}; stty -echo`,
      300,
    );
    scenario.bootLog = await scenario.guest.command('dmesg -c');
    const { real, before, after } = await scenario.now();
    scenario.lateNs = (before + after) / 2 - real;
    return scenario;
  }

  host(words: Omit<HostWords, 'networks'>): ScenarioHost {
    const networks = { default: `switch:unix:${this.socket}`, other: 'none' };
    return new ScenarioHost(this.world, { networks, ...words }, (line) => this.log.push(line));
  }

  get inner() {
    return this.guest.inner;
  }
  get vif(): Vif {
    return this.inner.devices.find('vif', 0)?.driver as Vif;
  }

  /** Moves the guest to another host, or to the other one of two. */
  async move(to = this.at === this.a ? this.b : this.a, terms: MoveTerms = {}): Promise<void> {
    let stoppedMs = 0;
    let seenNs: number | undefined;
    /** Measured when it is first asked for, which is at the guest's arrival. */
    const seen = (): number => (seenNs ??= (performance.now() - stoppedMs) * 1e6);
    const bounds: OutageBounds = {
      get least() {
        return seen();
      },
      get most() {
        return seen();
      },
    };
    await this.guest.moveTo(to, {
      terms,
      bounds: terms.outageAsSeen === true ? bounds : undefined,
      stopped: () => {
        stoppedMs = performance.now();
        this.world.passedNs += terms.outageNs ?? 0;
      },
    });
    this.at = to;
  }

  async moves(count: number, pauseMs = 100): Promise<void> {
    for (let i = 0; i < count; i++) {
      await new Promise((done) => setTimeout(done, pauseMs));
      await this.move();
    }
  }

  /** What the guest's clocks show, ns, and the true time before and after the request. */
  async now(): Promise<{ real: number; mono: number; before: number; after: number }> {
    const before = this.world.now();
    const text = await this.guest.command('now');
    const [, real, mono] = /NOW real=(\d+) mono=(\d+)/.exec(text)?.map(Number) ?? [];
    return { real, mono, before, after: this.world.now() };
  }

  /** The lines of the guest's kernel log that report trouble. */
  async troubles(): Promise<string> {
    return this.guest.command(
      "dmesg | grep -iE 'stall|hung task|lockup|blocked for|timed out|backwards|Cycle offset|oops|BUG|freez|unable to' | head; true",
    );
  }

  async close(): Promise<void> {
    await this.guest?.end();
    this.peer.close();
    await this.fabric.close();
    this.passt.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
