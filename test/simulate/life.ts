/**
 * One life of a simulated world: what users and faults do, in steps, and whether everything was right when it has
 * settled.
 */

import { control } from '../../src/control/api/api.js';
import { describeError } from '../../src/protocol/failure.js';
import type { GuestConfig } from '../../src/protocol/guest-config.js';
import { Dead, type SimulatedHost } from './host.js';
import { Dice, type Happening } from './time.js';
import type { GuestTruth } from './truth.js';
import { SimulatedWorld } from './world.js';

type DiskKind = 'none' | 'shared' | 'local';
type EndAction = GuestConfig['onCrash'];

/** The steps; `guest`, `host`, `a` and `b` are numbers. Times are in ms. */
export type Deed =
  | { do: 'create'; guest: number; host: number; disk: DiskKind; onCrash: EndAction; paused: boolean }
  | { do: 'migrate'; guest: number; host: number; copy: boolean }
  | { do: 'cancel' | 'destroy' | 'reboot' | 'shutdown' | 'pause' | 'unpause'; guest: number }
  | { do: 'save'; guest: number; keep: boolean }
  | { do: 'restore'; guest: number; host: number }
  | { do: 'define' | 'start'; guest: number; host: number }
  | { do: 'undefine'; guest: number }
  | { do: 'autostart'; guest: number; on: boolean; order: number; delayS: number }
  | { do: 'guest ends'; guest: number; reason: 'reboot' | 'poweroff' | 'crash' }
  | { do: 'cut'; a: number; b: number }
  | { do: 'hold'; a: number; b: number; ms: number; both: boolean }
  | { do: 'slow'; a: number; b: number; most: number; ms: number }
  | { do: 'kill daemon'; host: number; changes: number; again: number }
  | { do: 'power fails'; host: number; changes: number; again: number }
  | { do: 'kill process'; guest: number; arriving: boolean }
  | { do: 'hang process'; guest: number; arriving: boolean; ms: number }
  | { do: 'slow process'; guest: number; arriving: boolean; ms: number }
  | { do: 'refuse'; guest: number; arriving: boolean; what: string }
  | { do: 'full disk'; host: number; ms: number }
  | { do: 'step clock'; host: number; ms: number };
export type Step = Deed & { at: number };

export interface Life {
  readonly seed: number;
  readonly steps: readonly Step[];
}

const SOURCE_REFUSES = ['hello', 'send', 'lock', 'release', 'end', 'travellingDisks'];
const DESTINATION_REFUSES = ['receive', 'received', 'go', 'attach', 'end'];

/** Returns the life of a seed. */
export function lifeOf(seed: number, most = 60): Life {
  const dice = new Dice(seed);
  const guests = 1 + dice.below(most < 20 ? 2 : dice.chance(0.2) ? 10 : 4);
  const length = 6 + dice.below(most - 5);
  /** How many steps of a hundred are faults. */
  const faults = dice.pick([0, 10, 30, 50]);
  const steps: Step[] = [];
  let at = 0;
  const host = (): number => dice.below(3);
  const guest = (): number => dice.below(guests);
  const pair = (): { a: number; b: number } => {
    const a = host();
    return { a, b: (a + 1 + dice.below(2)) % 3 };
  };
  for (let g = 0; g < guests; g++) {
    const disk = dice.pick(['none', 'shared', 'local'] as const);
    const onCrash = dice.pick(['destroy', 'restart', 'preserve'] as const);
    steps.push({ at, do: 'create', guest: g, host: host(), disk, onCrash, paused: dice.chance(0.1) });
    at += dice.between(0, 300);
  }
  while (steps.length < length + guests) {
    at += dice.chance(0.6) ? dice.between(0, 150) : dice.between(0, dice.chance(0.2) ? 30_000 : 2_000);
    const deed = dice.below(100) < faults ? fault() : verb();
    steps.push({ ...deed, at: Math.round(at * 100) / 100 });
  }
  return { seed, steps };

  function verb(): Deed {
    const on = guest();
    const n = dice.below(100);
    if (n < 50) return { do: 'migrate', guest: on, host: host(), copy: dice.chance(0.6) };
    if (n < 58) return { do: 'cancel', guest: on };
    if (n < 62) return { do: 'destroy', guest: on };
    if (n < 66)
      return {
        do: 'create',
        guest: on,
        host: host(),
        disk: dice.pick(['none', 'shared', 'local'] as const),
        onCrash: dice.pick(['destroy', 'restart', 'preserve'] as const),
        paused: false,
      };
    if (n < 72) return { do: 'reboot', guest: on };
    if (n < 74) return { do: 'shutdown', guest: on };
    if (n < 82)
      return {
        do: 'guest ends',
        guest: on,
        reason: dice.pick(['reboot', 'reboot', 'poweroff', 'crash'] as const),
      };
    if (n < 88) return { do: 'save', guest: on, keep: dice.chance(0.5) };
    if (n < 93) return { do: 'restore', guest: on, host: host() };
    return { do: dice.chance(0.4) ? 'pause' : 'unpause', guest: on };
  }
  function fault(): Deed {
    const on = guest();
    const arriving = dice.chance(0.5);
    switch (dice.below(11)) {
      case 0:
        return { do: 'cut', ...pair() };
      case 1:
        return {
          do: 'hold',
          ...pair(),
          ms: dice.between(10, dice.chance(0.5) ? 500 : 40_000),
          both: dice.chance(0.5),
        };
      case 2:
        return { do: 'slow', ...pair(), most: dice.between(5, 800), ms: dice.between(100, 5_000) };
      case 3:
        return { do: 'kill daemon', host: host(), changes: dice.below(12), again: dice.between(1, 4_000) };
      case 4:
        return { do: 'power fails', host: host(), changes: dice.below(12), again: dice.between(100, 8_000) };
      case 5:
        return { do: 'kill process', guest: on, arriving };
      case 6:
        return {
          do: 'hang process',
          guest: on,
          arriving,
          ms: dice.between(10, dice.chance(0.5) ? 4_000 : 40_000),
        };
      case 7:
        return { do: 'slow process', guest: on, arriving, ms: dice.between(10, 3_000) };
      case 8:
      case 9:
        return {
          do: 'refuse',
          guest: on,
          arriving,
          what: dice.pick(arriving ? DESTINATION_REFUSES : SOURCE_REFUSES),
        };
      default:
        return dice.chance(0.6)
          ? { do: 'full disk', host: host(), ms: dice.between(10, 10_000) }
          : { do: 'step clock', host: host(), ms: dice.between(-1e9, 1e9) };
    }
  }
}

/** The life of a seed among whose steps are those of guests that are defined, and more faults that lose guests. */
export function definedLifeOf(seed: number, most = 60): Life {
  const { steps } = lifeOf(seed, most);
  const dice = new Dice(seed ^ 0xdef1);
  const last = steps.at(-1)?.at ?? 0;
  const guests = 1 + Math.max(...steps.map((step) => ('guest' in step ? step.guest : 0)));
  const deed = (): Deed => {
    const guest = dice.below(guests);
    const host = dice.below(3);
    const n = dice.below(100);
    if (n < 25) return { do: 'define', guest, host };
    if (n < 60)
      return { do: 'autostart', guest, on: dice.chance(0.85), order: dice.below(3), delayS: dice.below(20) };
    if (n < 75) return { do: 'start', guest, host };
    if (n < 79) return { do: 'undefine', guest };
    if (n < 88) return { do: 'power fails', host, changes: dice.below(12), again: dice.between(100, 8_000) };
    if (n < 95) return { do: 'kill daemon', host, changes: dice.below(12), again: dice.between(1, 4_000) };
    return { do: 'kill process', guest, arriving: false };
  };
  const more = Array.from(
    { length: 3 + dice.below(most) },
    (): Step => ({
      ...deed(),
      at: Math.round(dice.between(0, last * 1.2 + 2_000) * 100) / 100,
    }),
  );
  return { seed, steps: [...steps, ...more].sort((a, b) => a.at - b.at) };
}

export interface Outcome {
  readonly violations: readonly string[];
  readonly trace: readonly string[];
  readonly steps: number;
  readonly events: number;
  /** Virtual time, ms. */
  readonly took: number;
  /** How often each verb was answered, by answer. */
  readonly answers: ReadonlyMap<string, number>;
}

const SETTLE_MS = 400_000;
const LOOK_MS = 500;

interface Asked {
  readonly words: string;
  readonly host: SimulatedHost;
}

class Living {
  readonly world: SimulatedWorld;
  readonly answers = new Map<string, number>();
  private readonly pending = new Set<Asked>();
  private readonly configs = new Map<number, GuestConfig>();
  /** Faults that are still to take effect. */
  private readonly fate: Happening[] = [];

  constructor(
    private readonly life: Life,
    traces: boolean,
  ) {
    this.world = new SimulatedWorld(life.seed, traces);
  }

  async live(): Promise<Outcome> {
    const { world, life } = this;
    const { truth, time } = world;
    const unhandled = (error: unknown): void => {
      if (error instanceof Dead) return;
      truth.violation(`a daemon would have ended: ${(error as Error)?.stack ?? error}`);
    };
    const others = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', unhandled);
    try {
      for (const host of world.hosts) host.startDaemon();
      await time.run(1_500, () => world.hosts.every((host) => host.run?.listens === true));
      const began = time.now;
      for (const step of life.steps) time.at(began + step.at, () => this.take(step));
      await time.run(began + (life.steps.at(-1)?.at ?? 0), () => truth.violations.length > 0);
      if (truth.violations.length === 0) await this.settle();
    } finally {
      process.removeListener('unhandledRejection', unhandled);
      for (const other of others) process.on('unhandledRejection', other);
    }
    return {
      violations: truth.violations,
      trace: world.trace,
      steps: life.steps.length,
      events: time.events,
      took: time.now,
      answers: this.answers,
    };
  }

  // --- steps ---

  private take(step: Step): void {
    const { world } = this;
    const host = 'host' in step ? world.hosts[step.host] : world.hosts[0];
    if (world.traces) world.say(`-- ${JSON.stringify(step)}`);
    switch (step.do) {
      case 'create':
        this.create(step, host);
        return;
      case 'restore':
        this.restore(step.guest, host);
        return;
      case 'define':
        this.define(step.guest, host);
        return;
      case 'start':
        this.start(step.guest);
        return;
      case 'guest ends':
        this.process(step.guest, false)?.stops(step.reason);
        return;
      case 'cut':
        world.network.cut(step.a, step.b);
        world.network.cut(step.b, step.a);
        return;
      case 'hold': {
        const ways = step.both
          ? [
              [step.a, step.b],
              [step.b, step.a],
            ]
          : [[step.a, step.b]];
        for (const [from, to] of ways) {
          world.network.hold(from, to);
          this.later(step.ms, () => world.network.release(from, to));
        }
        return;
      }
      case 'slow':
        world.network.slow(step.a, step.b, step.most);
        this.later(step.ms, () => world.network.slow(step.a, step.b, 1));
        return;
      case 'kill daemon':
      case 'power fails': {
        const how = step.do === 'kill daemon' ? 'daemon' : 'machine';
        // The fault strikes between changes of its disk, or now if it makes none.
        host.run?.diesAfter(step.changes, how);
        this.later(step.changes === 0 ? 0 : 1_000, () =>
          how === 'daemon' ? host.killDaemon() : host.powerFails(),
        );
        this.later(1_000 + step.again, () => {
          host.switchOn();
          host.startDaemon();
        });
        return;
      }
      case 'kill process': {
        const process = this.process(step.guest, step.arriving);
        if (process === undefined) return;
        world.truth.killed(process, 'it was killed');
        process.host.kill(process);
        return;
      }
      case 'hang process': {
        const process = this.process(step.guest, step.arriving);
        process?.standStill(step.ms);
        return;
      }
      case 'slow process': {
        const process = this.process(step.guest, step.arriving);
        if (process !== undefined) process.slow = step.ms;
        return;
      }
      case 'refuse':
        void this.process(step.guest, step.arriving)?.refuses.add(step.what);
        return;
      case 'full disk':
        host.disk.full = true;
        this.later(step.ms, () => (host.disk.full = false));
        return;
      case 'step clock':
        host.stepClock(step.ms);
        return;
      default:
        this.onGuest(step);
        return;
    }
  }

  private later(ms: number, what: () => void): void {
    this.fate.push(this.world.time.after(ms, what));
  }

  /** Returns the process that has the guest, or one in which the guest arrives. */
  private process(guest: number, arriving: boolean) {
    const config = this.configs.get(guest);
    if (config === undefined) return undefined;
    const all = this.world.processes();
    if (!arriving) return all.find((p) => p.memory?.uuid === config.uuid && p.phase === 'live');
    for (const host of this.world.hosts)
      for (const { state } of host.run?.daemon?.domains.all.values() ?? [])
        if (state.uuid === config.uuid && state.phase === 'incoming' && state.process !== null)
          return host.process(state.process);
    return undefined;
  }

  /** Returns the host whose daemon has the guest. */
  private hostOf(uuid: string): SimulatedHost | undefined {
    let found: SimulatedHost | undefined;
    for (const host of this.world.hosts) {
      if (host.run?.alive !== true) continue;
      for (const { state } of host.run.daemon?.domains.all.values() ?? []) {
        if (state.uuid !== uuid) continue;
        if (state.phase === 'live') return host;
        found ??= host;
      }
    }
    return found;
  }

  /**
   * Sends a request to a daemon. `told` is called with its answer, or with undefined if the daemon died meanwhile.
   * False: there is no daemon to ask.
   */
  private ask(
    host: SimulatedHost,
    verb: string,
    params: Record<string, unknown>,
    told: (answer: { ok?: unknown; error?: { code: string; message: string } } | undefined) => void,
  ): boolean {
    const { run } = host;
    const words = `${verb} ${params.guest ?? params.path ?? ''} on ${host.name}`;
    const note = (answer: string): void => {
      const key = `${verb}: ${answer}`;
      this.answers.set(key, (this.answers.get(key) ?? 0) + 1);
    };
    if (run?.alive !== true || !run.listens) {
      note('no daemon');
      return false;
    }
    const asked = { words, host };
    this.pending.add(asked);
    const stop = this.world.whenDies(run.daemon!, () => {
      if (!this.pending.delete(asked)) return;
      note('daemon died');
      told(undefined);
    });
    const over = (answer: { ok?: unknown; error?: { code: string; message: string } }): void => {
      stop();
      if (!this.pending.delete(asked)) return;
      const { error } = answer;
      note(error === undefined ? 'ok' : error.code);
      this.world.say(
        `"${words}" is answered: ${error === undefined ? 'ok' : `${error.code}: ${error.message}`}`,
      );
      told(answer);
    };
    const caller = { rpc: { notice: () => undefined, closed: false }, fingerprint: '' } as never;
    (async () => control(verb, params, run.daemon!, caller))().then(
      (ok) => over({ ok }),
      (error: unknown) => {
        if (!(error instanceof Dead)) over({ error: describeError(error) });
      },
    );
    return true;
  }

  private configOf({
    guest,
    disk,
    onCrash,
  }: Pick<Extract<Deed, { do: 'create' }>, 'guest' | 'disk' | 'onCrash'>): GuestConfig {
    const known = this.configs.get(guest);
    if (known !== undefined) return known;
    const folder = disk === 'shared' ? '/shared' : '/images';
    const spec = {
      target: `${folder}/g${guest}.img`,
      format: 'raw',
      vdev: 'xvda',
      virtualDevice: 51_712,
      readOnly: false,
      cdrom: false,
    };
    const config: GuestConfig = {
      name: `g${guest}`,
      uuid: `00000000-0000-4000-8000-${String(guest).padStart(12, '0')}`,
      vcpus: 1,
      memoryKib: 4096,
      maxMemoryKib: 4096,
      kernel: '',
      ramdisk: '',
      cmdline: '',
      onPoweroff: 'destroy',
      onReboot: 'restart',
      onCrash,
      clock: 'elapse',
      devices: disk === 'none' ? [] : [{ kind: 'vbd', devid: 51_712, spec: JSON.stringify(spec) }],
      more: {},
    };
    this.configs.set(guest, config);
    return config;
  }

  /** The host that knows the guest beside its domains, if one does. Nobody defines a guest on two hosts. */
  private definedOn(uuid: string): SimulatedHost | undefined {
    return this.world.hosts.find(({ run }) => run?.daemon?.domains.definitions.get(uuid) !== undefined);
  }

  private lives(uuid: string): boolean {
    return this.world
      .processes()
      .some((process) => process.memory?.uuid === uuid && process.phase === 'live');
  }

  private define(number: number, host: SimulatedHost): void {
    const { world } = this;
    const config = this.configOf({ guest: number, disk: 'shared', onCrash: 'destroy' });
    // Whoever does not see all hosts might define it on a second one.
    if (!world.hosts.every(({ run }) => run?.alive === true && run.listens)) return;
    const at = this.hostOf(config.uuid) ?? this.definedOn(config.uuid) ?? host;
    if (!this.livesOrMay(config.uuid)) world.images.put(at, config, '');
    const guest = world.truth.know(config);
    // Whoever defines a guest after it was saved means another start of it.
    if (this.definedOn(config.uuid) === undefined && !this.lives(config.uuid))
      guest.savedBoot = guest.mustBeGone = undefined;
    this.ask(at, 'define', { config: JSON.stringify(config), file: 'f', directory: '/' }, (answer) => {
      if (answer?.ok !== undefined) guest.defined = true;
    });
  }

  private start(number: number): void {
    const { world } = this;
    const config = this.configs.get(number);
    const host = config && (this.hostOf(config.uuid) ?? this.definedOn(config.uuid));
    if (config === undefined || host === undefined) return;
    const guest = world.truth.know(config);
    const before = guest.arrivals.length;
    // Else the request is refused.
    const waits = !this.lives(config.uuid) && this.hostOf(config.uuid) === undefined;
    if (waits) {
      const { savedBoot } = guest;
      this.mayLive(guest);
      guest.savedBoot = savedBoot;
      guest.asked = true;
    }
    this.ask(host, 'start', { guest: config.name, paused: false }, (answer) => {
      if (waits) guest.asked = false;
      if (answer?.ok !== undefined) this.told(guest, host, before, 'started');
    });
  }

  private create(step: Extract<Deed, { do: 'create' }>, host: SimulatedHost): void {
    const { world } = this;
    const had = this.configs.has(step.guest);
    const config = this.configOf(step);
    if (had && this.livesOrMay(config.uuid)) return;
    const defined = this.definedOn(config.uuid);
    if (defined !== undefined && defined !== host) return;
    world.images.put(host, config, '');
    const guest = world.truth.know(config);
    const params = { config: JSON.stringify(config), file: 'f', directory: '/', paused: step.paused };
    const before = guest.arrivals.length;
    this.mayLive(guest);
    guest.asked = this.ask(host, 'create', params, (answer) => {
      guest.asked = false;
      if (answer?.ok !== undefined) this.told(guest, host, before, 'created');
    });
  }

  /** A guest that may exist somewhere is not created a second time. */
  private livesOrMay(uuid: string): boolean {
    const guest = this.world.truth.guests.get(uuid);
    if (guest?.asked) return true;
    if (guest !== undefined && guest.mustBeGone === undefined && guest.mayBeGone.size === 0 && guest.told)
      return true;
    if (this.world.processes().some((p) => (p.memory?.uuid ?? p.config?.uuid) === uuid)) return true;
    return this.world.hosts.some(
      (host) =>
        host.run?.listens !== true ||
        [...host.disk.all().keys()].some((path) => path.startsWith('/d/handovers/')) ||
        [...(host.run.daemon?.domains.all.values() ?? [])].some(({ state }) => state.uuid === uuid),
    );
  }
  private mayLive(guest: GuestTruth): void {
    guest.mustBeGone = undefined;
    guest.mayBeGone.clear();
    guest.preserved = false;
    guest.savedBoot = undefined;
    guest.told = false;
  }
  /** Somebody was told that the guest lives there. */
  private told(guest: GuestTruth, host: SimulatedHost, before: number, words: string): void {
    guest.told = true;
    if (!guest.arrivals.slice(before).some((one) => one.host === host.index))
      this.world.truth.violation(
        `${guest.config.name} was said to be ${words} on ${host.name}, and never lived there`,
      );
  }

  private restore(number: number, host: SimulatedHost): void {
    const config = this.configs.get(number);
    if (config === undefined || this.livesOrMay(config.uuid)) return;
    const defined = this.definedOn(config.uuid);
    if (defined !== undefined && defined !== host) return;
    const guest = this.world.truth.guests.get(config.uuid)!;
    const path = `/saved/g${number}`;
    const file = host.disk.find(path)?.text;
    if (file === undefined) return;
    const before = guest.arrivals.length;
    this.mayLive(guest);
    const { memory, disk } = JSON.parse(file.slice(file.indexOf('{"say":"all"'))) as {
      memory: { boot: number; count: number };
      disk: string;
    };
    void disk;
    // The guest continues from there, with the disk that it had then.
    [guest.boot, guest.count] = [memory.boot, memory.count];
    this.world.images.put(host, config, JSON.stringify({ uuid: config.uuid, ...memory }));
    guest.asked = this.ask(host, 'restore', { path }, (answer) => {
      guest.asked = false;
      if (answer?.ok !== undefined) this.told(guest, host, before, 'restored');
    });
  }

  private onGuest(step: Extract<Deed, { guest: number }>): void {
    const { world } = this;
    const { truth } = world;
    const config = this.configs.get(step.guest);
    if (config === undefined) return;
    const guest = truth.know(config);
    const lives = this.hostOf(config.uuid);
    const host = lives ?? this.definedOn(config.uuid);
    if (host === undefined) return;
    // Nobody is asked.
    if (host.run?.alive !== true || !host.run.listens) return;
    if (lives === undefined && !['autostart', 'undefine', 'destroy'].includes(step.do)) return;
    const { name } = config;
    const before = guest.arrivals.length;
    const elsewhere = (): string =>
      guest.arrivals
        .slice(before)
        .filter((one) => one.host !== host.index)
        .map((one) => world.hosts[one.host].name)
        .join(' and ');
    switch (step.do) {
      case 'migrate': {
        const to = world.hosts[(step as { host: number }).host];
        const { copy } = step as { copy: boolean };
        this.ask(
          host,
          'migrate',
          {
            guest: name,
            host: to === host ? 'localhost' : `127.0.0.${to.index + 1}:${to.port}`,
            copyStorage: copy,
          },
          (answer) => {
            if (answer?.ok !== undefined) this.told(guest, to, before, 'moved');
            const { error } = answer ?? {};
            if (error !== undefined && /the guest goes on here/.test(error.message) && elsewhere() !== '')
              truth.violation(`${name} was said to go on at ${host.name}, and lives on ${elsewhere()}`);
          },
        );
        return;
      }
      case 'cancel':
        this.ask(host, 'cancelMove', { guest: name }, (answer) => {
          if (answer?.ok !== undefined && elsewhere() !== '')
            truth.violation(`the move of ${name} was said to be cancelled, and it lives on ${elsewhere()}`);
        });
        return;
      case 'destroy': {
        const why = `it was to be destroyed (${world.time.now})`;
        const [domain] = [...host.run!.daemon!.domains.all.values()].filter(
          (d) => d.state.uuid === config.uuid,
        );
        // An arriving guest is refused, and continues where it was.
        const isOurs = domain?.state.phase !== 'incoming';
        if (isOurs) guest.mayBeGone.add(why);
        if (isOurs) guest.comesBack = undefined;
        this.ask(host, 'destroy', { guest: name }, (answer) => {
          const refused = ['bad-state', 'no-such-guest'].includes(answer?.error?.code ?? '');
          // If the request fails for another reason, it has begun.
          if (refused) guest.mayBeGone.delete(why);
          if (answer?.ok !== undefined && isOurs && guest.told && elsewhere() === '')
            guest.mustBeGone = `destroyed on ${host.name}`;
        });
        return;
      }
      case 'save': {
        const { keep } = step as { keep: boolean };
        const why = `it was to be saved (${world.time.now})`;
        if (!keep) guest.mayBeGone.add(why);
        if (!keep) guest.comesBack = undefined;
        this.ask(host, 'save', { guest: name, path: `/saved/g${step.guest}`, keep }, (answer) => {
          if (answer?.error !== undefined) guest.mayBeGone.delete(why);
          if (answer?.ok === undefined) return;
          if (host.disk.find(`/saved/g${step.guest}`) === undefined)
            truth.violation(`${name} was said to be saved, and is not`);
          if (!keep) guest.mustBeGone = `saved on ${host.name}`;
        });
        return;
      }
      case 'undefine':
        guest.defined = false;
        guest.autostart = false;
        guest.comesBack = undefined;
        guest.mayBeGone.add(`it was to be undefined (${world.time.now})`);
        this.ask(host, 'undefine', { guest: name }, () => undefined);
        return;
      case 'autostart': {
        const { on, order, delayS } = step as Extract<Deed, { do: 'autostart' }>;
        if (!on) guest.autostart = false;
        if (!on) guest.comesBack = undefined;
        // It may have been about to be started.
        if (!on) guest.mayBeGone.add(`it was to be started no more (${world.time.now})`);
        this.ask(host, 'autostart', { guest: name, plan: on ? { order, delayS } : null }, (answer) => {
          if (answer?.ok === undefined) return;
          guest.defined = true;
          guest.autostart = on;
        });
        return;
      }
      default:
        this.ask(host, step.do, { guest: name }, () => undefined);
    }
  }

  // --- the end ---

  private heal(): void {
    const { world } = this;
    world.say('== all is healed');
    for (const fault of this.fate) fault.cancel();
    world.network.heal();
    for (const host of world.hosts) {
      host.disk.full = false;
      host.run?.mend();
      host.switchOn();
      host.startDaemon();
    }
    for (const process of world.processes()) {
      process.goOn();
      process.slow = 0;
      process.refuses.clear();
    }
  }

  /** Describes what has not settled yet; "" if everything has. */
  private unrest(): string {
    for (const { words } of this.pending) return `"${words}" is not answered`;
    for (const host of this.world.hosts) {
      if (host.run?.listens !== true) return `${host.name} has no daemon that listens`;
      const { domains } = host.run.daemon!;
      for (const { uuid, config } of domains.definitions)
        if (domains.autostart.isPending(uuid) && domains.ofGuest(uuid)?.state.phase !== 'ended')
          return `on ${host.name}, ${config.name} is to be started`;
      for (const path of host.disk.all().keys())
        if (path.startsWith('/d/handovers/')) return `${host.name} has ${path}`;
      for (const domain of host.run.daemon!.domains.all.values()) {
        const { state, recovering, restarting } = domain;
        const at = `on ${host.name}, domain ${state.domid} (${state.name})`;
        if (host.run.daemon!.moves.isMoving(domain)) return `${at} is moving`;
        const process = this.world.processes().find(({ pid }) => pid === state.process?.pid);
        if (state.phase === 'live' && process?.phase !== 'live') return `${at} ends, and nobody has noticed`;
        if (state.phase === 'ended' && this.world.truth.guests.get(state.uuid)?.comesBack !== undefined)
          return `${at} was lost, and is to be started again`;
        if (recovering !== undefined) return `${at} is being taken up`;
        if (restarting) return `${at} is being switched on again`;
        if (state.phase === 'building' || state.phase === 'incoming') return `${at} is ${state.phase}`;
        if (state.phase === 'ended' && this.world.truth.guests.get(state.uuid)?.config.onCrash !== 'preserve')
          return `${at} has ended, and is there`;
      }
    }
    return '';
  }

  private async rest(): Promise<boolean> {
    const { time, truth } = this.world;
    const end = time.now + SETTLE_MS;
    for (;;) {
      await time.run(time.now + LOOK_MS);
      if (truth.violations.length > 0) return false;
      const why = this.unrest();
      if (why === '') return true;
      if (time.now < end) continue;
      truth.violation(`it does not settle: ${why}`);
      return false;
    }
  }

  private async settle(): Promise<void> {
    const { world } = this;
    const { truth, time } = world;
    this.heal();
    if (!(await this.rest())) return;
    truth.check();
    this.checkFiles();
    if (truth.violations.length > 0) return;
    world.say('== all guests are destroyed');
    for (const host of world.hosts)
      for (const { state } of host.run!.daemon!.domains.all.values())
        this.ask(host, 'destroy', { guest: state.uuid }, (answer) => {
          if (answer?.ok === undefined)
            truth.violation(`${state.name} cannot be destroyed: ${answer?.error?.message}`);
        });
    if (!(await this.rest())) return;
    if (world.processes().some((process) => process.lonely)) await time.run(time.now + 61_000);
    for (const process of world.processes()) truth.violation(`process ${process.name} is left over`);
    for (const lock of world.images.locked()) truth.violation(`a lock of ${lock} is left over`);
    this.checkFiles();
    for (const host of world.hosts) host.closeDaemon();
    await time.run(time.now + 120_000);
    if (time.pending > 0) truth.violation(`${time.pending} waits are left over`);
    for (const end of world.network.ends) truth.violation(`a connection of ${end.owner.name} is left over`);
  }

  /** Nothing must be left of guests that no longer exist. */
  private checkFiles(): void {
    const { truth, hosts } = this.world;
    for (const host of hosts) {
      const domains = [...host.run!.daemon!.domains.all.values()];
      const known = new Set(domains.map(({ domid }) => domid));
      for (const path of host.disk.all().keys()) {
        const state = /^\/d\/state\/(\d+)\.json$/.exec(path);
        const odd =
          /\.(incoming|new|damaged)$/.test(path) || (state !== null && !known.has(Number(state[1])));
        if (odd) truth.violation(`${path} is left over on ${host.name}`);
      }
      for (const path of host.disk.directoriesBelow('/d/guests'))
        if (!known.has(Number(path.split('/').at(-1))))
          truth.violation(`${path} is left over on ${host.name}`);
      for (const domid of host.shown)
        if (!known.has(domid))
          truth.violation(`domain ${domid} is left over in the xenstore of ${host.name}`);
      for (const entry of host.entries) {
        const domid = Number(entry.split(' ')[0]) - host.config.guestUid;
        if (!known.has(domid)) truth.violation(`domain ${domid} on ${host.name} may open an image still`);
      }
      if (host.listening > 0) truth.violation(`somebody listens on ${host.name}`);
      const pids = new Set(domains.map(({ state }) => state.process?.pid));
      for (const process of host.all)
        if (!pids.has(process.pid) && !process.lonely)
          truth.violation(`process ${process.name} is no domain's`);
    }
  }
}

export const live = (life: Life, traces = false): Promise<Outcome> => new Living(life, traces).live();
