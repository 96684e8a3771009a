/**
 * A guest that depends only on its inputs: time counts instructions, and input is typed at times that follow from the
 * guest's own output. Two guests with the same inputs, one that stays and one that is moved, must end in the same
 * state, byte for byte.
 *
 * Invariant: `runTo(t)` leaves the guest at exactly virtual time t (unless it has ended), and it does not matter how
 * the way there was divided.
 */
import { wasmEngine } from '../../src/engine/engines.js';
import { Guest, type GuestSpec, type GuestSurroundings, guestStateRecord } from '../../src/helper/guest.js';
import type { Host, OuterKind } from '../../src/host/host.js';
import type { DomainRun } from '../../src/hypervisor/domain.js';
import { StreamReader } from '../../src/migration/stream-reader.js';
import { StreamWriter } from '../../src/migration/stream-writer.js';
import { decodeRaw, decodeRecord } from '../../src/records/record.js';
import type { DomId, Nanoseconds, Port } from '../../src/xen/types.js';
import { Outside, STEP_NS } from './outside.js';
import { Random } from './random.js';

/** True time at power-on, ns since 1970; the same on all hosts, whose own clocks differ from it. */
const EPOCH_NS = 1_700_000_000_000_000_000;
const DISK_BYTES = 8 << 20;

/** When `output` has matched (from the end of the previous match on), `type` is typed. */
export interface Cue {
  readonly output: RegExp;
  readonly type: string;
}

export type How = 'copy' | 'stream';

export class TwinGuest {
  output = '';
  ended: DomainRun | undefined;
  moves = 0;
  private seen = 0;
  private cue = 0;

  /** Its disk and its network, which stay where they are when the guest moves. */
  readonly outside = new Outside(DISK_BYTES, () => this.now);

  private constructor(private readonly cues: readonly Cue[]) {}
  #guest: Guest | undefined;

  /** The container that the guest is in now. */
  get guest(): Guest {
    return this.#guest as Guest;
  }

  static async powerOn(spec: GuestSpec, cues: readonly Cue[]): Promise<TwinGuest> {
    const twin = new TwinGuest(cues);
    const host = twin.host(new Random(1));
    const settled: GuestSpec = { ...spec, nsPerInstruction: 1, clock: 'freeze' };
    twin.#guest = await Guest.powerOn(settled, host, twin.around());
    await twin.guest.attach();
    twin.guest.start();
    return twin;
  }

  private around(): GuestSurroundings {
    return {
      engine: wasmEngine(),
      console: (bytes) => {
        this.output += Buffer.from(bytes).toString('latin1');
        return true;
      },
      log: () => undefined,
      wake: () => undefined,
    };
  }

  /** A host that agrees with no other in anything; its wall clock is slightly behind the true time. */
  private host(random: Random): Host {
    const skew = random.below(1e9);
    const uptime = random.below(1e6) * 1e9;
    return {
      identity: {
        name: `host ${skew}`,
        xenVersion: `4.${10 + random.below(10)}.${random.below(6)}`,
        cpuModel: `processor ${random.below(100)}`,
      },
      clock: {
        uptime: () => Math.floor(uptime + performance.now() * 1e6) as Nanoseconds,
        wallClock: () => (EPOCH_NS + (this.#guest?.domain.clock.now() ?? 0) - skew) as Nanoseconds,
        tscKhz: 1e6 + random.below(3e6),
      },
      domid: (1 + random.below(32_000)) as DomId,
      storePort: (1 + random.below(1000)) as Port,
      consolePort: (1 + random.below(1000)) as Port,
      storeFrame: random.below(1e6),
      consoleFrame: random.below(1e6),
      pretended: new Set<OuterKind>(),
      store: { write: () => undefined, onChange: () => undefined },
      links: {
        vbd: async () => this.outside.disk.link(),
        vif: async (_devid, _spec, client) => ({
          link: this.outside.net.link(client),
          // The host makes announcements, to which nobody listens here.
          timers: { now: () => this.now / 1e6, after: () => () => undefined },
        }),
      },
    };
  }

  get now(): number {
    return this.guest.domain.clock.now();
  }
  get done(): boolean {
    return this.ended !== undefined;
  }

  /** Runs to virtual time `until`, and types at multiples of STEP_NS what is due on the way. */
  runTo(until: number): void {
    while (!this.done && this.now < until) {
      const boundary = (Math.floor(this.now / STEP_NS) + 1) * STEP_NS;
      this.runPlain(Math.min(until, boundary));
      if (this.now === boundary) this.look();
    }
  }

  /**
   * Runs to virtual time `until` without typing; `until` is at most the next multiple of STEP_NS. Answers of disk and
   * network come when they are due.
   */
  private runPlain(until: number): void {
    const { domain } = this.guest;
    while (!this.done && domain.clock.now() < until) {
      const result = this.guest.run(until - domain.clock.now());
      if (result.state === 'shutdown') this.ended = result;
      if (result.state === 'idle') domain.clock.advanceTo(until);
    }
    this.outside.deliver();
  }

  private look(): void {
    const cue = this.cues[this.cue];
    if (cue === undefined) return;
    const found = cue.output.exec(this.output.slice(this.seen));
    if (found === null) return;
    this.seen += found.index + found[0].length;
    this.cue++;
    this.guest.console.type(Buffer.from(cue.type, 'latin1'));
  }

  /**
   * Everything of the guest that a stream carries: memory, and the records by name, except the outages, which are not
   * shown to the guest.
   */
  state(): { readonly ram: Uint8Array; readonly records: ReadonlyMap<string, Uint8Array> } {
    const saved = decodeRecord(guestStateRecord, decodeRaw(this.guest.saveState()));
    return {
      ram: this.guest.ram,
      records: new Map([
        ['domain', saved.domain],
        ['xenstore', saved.store],
        ['devices', saved.devices],
        ...saved.points
          .filter((point) => point.name !== 'outage')
          .map((point): [string, Uint8Array] => [point.name, point.record]),
      ]),
    };
  }

  /** Moves the guest between two instructions to another host, which is unlike this one. */
  async move(random: Random, how: How): Promise<void> {
    const from = this.guest;
    await from.pause();
    const host = this.host(random);
    const arrive = (description: Uint8Array): Promise<Guest> =>
      Guest.empty(description.slice(), host, this.around());
    let to: Guest;
    if (how === 'copy') {
      to = await arrive(from.describe());
      to.ram.set(from.ram);
      to.restoreState(from.saveState().slice());
    } else {
      to = await throughStream(from, arrive, random);
    }
    await from.release();
    await from.detach();
    await to.attach();
    this.#guest = to;
    this.moves++;
    to.start();
  }
}

async function throughStream(
  from: Guest,
  arrive: (description: Uint8Array) => Promise<Guest>,
  random: Random,
): Promise<Guest> {
  let to: Guest | undefined;
  const { frames } = from.domain.engine.ram;
  const reader = new StreamReader({
    head: () => undefined,
    container: async (description) => {
      to = await arrive(description);
      return { ram: to.ram, frames: to.domain.engine.ram.frames };
    },
    state: (records) => to?.restoreState(records.slice()),
  });
  const writer = new StreamWriter(async (bytes) => {
    for (let at = 0; at < bytes.length; ) {
      const size = 1 + random.below(1 << 20);
      await reader.push(bytes.subarray(at, at + size));
      at += size;
    }
  });
  await writer.begin({ frames, uuid: 'twin', name: 'twin' }, from.describe());
  const all = new Uint8Array((frames + 7) >> 3).fill(0xff);
  await writer.round(0, all, frames, frames, from.ram);
  await writer.end(from.saveState());
  reader.finish();
  return to as Guest;
}
