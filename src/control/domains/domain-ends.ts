/**
 * The ends of this host's domains: they are destroyed, discarded, or restarted, as somebody asks or as on_poweroff,
 * on_reboot and on_crash say. What has to be on record is tried until it is.
 */
import type { Logger } from 'pino';
import type { HostImages } from '../../host/images.js';
import { sleep } from '../../os/clock.js';
import type { DomainChange, DomainEvent } from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import type { GuestConfig } from '../../protocol/guest-config.js';
import type { GuestExit } from '../../protocol/guest-process.js';
import type { World } from '../world.js';
import type { Autostart } from './autostart.js';
import type { Crashes } from './crashes.js';
import type { Definitions } from './definitions.js';
import type { DomainDevices } from './domain-devices.js';
import type { DomainFiles } from './domain-files.js';
import type { HostedDomain } from './hosted-domain.js';

/** How hand-overs take part when one of their domains ends; see moves.ts. */
export interface MoveWatcher {
  /**
   * True if the domain is being handed over: then its end is not a crash, and the hand-over deals with what remains.
   */
  ended(domain: HostedDomain, exit: GuestExit): boolean;
  stopping(domain: HostedDomain): Promise<void>;
  /** The domain's files are about to be removed. */
  removing(domain: HostedDomain): void;
  /** True if a move of the guest from here is not settled. */
  concerns(uuid: string): boolean;
}

/** A guest that ends and restarts faster than this counts as broken, not as rebooting. */
const LEAST_LIFE_MS = 1_000;
/**
 * Time between two attempts to restart a guest, for example while there is not enough memory or its kernel is
 * missing: the first interval and the longest.
 */
const RESTART_RETRY_MS = [1_000, 60_000] as const;

/** What is kept of a domain that the new one replaces. */
export interface Replaced {
  readonly foreign?: readonly string[];
  readonly replaces?: number;
  /** As in NewDomain. */
  readonly overcommit?: boolean;
}

/** What DomainEnds uses of its host. */
export interface EndsContext {
  readonly world: World;
  readonly images: HostImages;
  readonly log: Logger;
  readonly all: Map<number, HostedDomain>;
  readonly moves: MoveWatcher | undefined;
  readonly crashes: Crashes;
  readonly definitions: Definitions;
  readonly autostart: Autostart;
  changed(domain: HostedDomain, change: DomainChange, details?: Partial<DomainEvent>): void;
  create(config: GuestConfig, paused: boolean, replaced: Replaced): Promise<HostedDomain>;
}

export class DomainEnds {
  private readonly world: World;
  private readonly log: Logger;
  private readonly all: Map<number, HostedDomain>;

  constructor(
    private readonly context: EndsContext,
    private readonly files: DomainFiles,
    private readonly devices: DomainDevices,
  ) {
    this.world = context.world;
    this.log = context.log;
    this.all = context.all;
  }

  ended(domain: HostedDomain, exit: GuestExit): void {
    domain.state.exit = exit;
    domain.state.phase = 'ended';
    this.context.changed(domain, 'ended', exit);
    this.log.info({ domid: domain.domid, name: domain.state.name, ...exit }, 'guest ended');
    if (this.context.moves?.ended(domain, exit) === true) return;
    this.applyPolicy(domain, exit);
  }

  /** Starts what the configuration asks for after such an end. It is not awaited: a guest may have to be restarted. */
  applyPolicy(domain: HostedDomain, exit: GuestExit): void {
    this.followEnd(domain, exit).catch((error: Error) =>
      this.log.error({ domid: domain.domid, error: error.message }, 'what follows the end of a guest failed'),
    );
  }

  private async followEnd(domain: HostedDomain, exit: GuestExit): Promise<void> {
    // Somebody has ended the domain meanwhile: nothing is to follow.
    const known = (): boolean => this.all.get(domain.domid) === domain;
    if (domain.leaving || !known()) return;
    const { config, uuid } = domain.state;
    const { autostart, crashes, definitions } = this.context;
    const wanted =
      exit.reason === 'crash'
        ? config?.onCrash
        : exit.reason === 'reboot'
          ? config?.onReboot
          : exit.reason === 'poweroff'
            ? config?.onPoweroff
            : 'destroy';
    const core = wanted === 'coredump-destroy' || wanted === 'coredump-restart';
    if (core || exit.reason === 'crash') await crashes.keep(domain, exit, core && exit.lost !== true);
    if (domain.leaving || !known()) return;
    if (exit.lost === true) {
      const again = await this.untilDone(domain, 'that was lost is not on record yet', known, () => {
        definitions.keepMoved(domain.state);
        return autostart.lost(uuid);
      });
      if (again === true) return this.discardUntilDone(domain, 'crash');
      if (domain.leaving || !known()) return;
    }
    if (wanted === 'preserve')
      await this.untilDone(domain, 'that ended is not on record yet', known, () => domain.save());
    else if ((wanted === 'restart' || wanted === 'coredump-restart') && config !== null)
      await this.restart(domain, domain.state.next ?? config);
    else if (exit.reason === 'crash') await this.discardUntilDone(domain, 'crash');
    else await this.discardUntilDone(domain, exit.reason === 'saved' ? 'saved' : 'destroyed');
  }

  /**
   * Restarts the guest as another domain.
   *
   * Invariant: at every moment a record from which the guest can be restarted is on disk: the record of the old
   * domain is removed only after the record of the new one says that it runs. A step that fails is retried; `destroy`
   * of the old domain ends that.
   */
  private async restart(old: HostedDomain, config: GuestConfig): Promise<void> {
    if (old.restarting) return;
    old.restarting = true;
    const { domid } = old;
    // The files of a configuration that was given on this host were named by its operator.
    const foreign = config === old.state.next ? [] : old.state.foreign;
    const wanted = (): boolean => this.all.get(domid) === old && !old.leaving;
    // The next process will have a different last line.
    await this.untilDone(old, 'that ended is not on record yet', wanted, () => old.save());
    if (!wanted()) return;
    await old.endProcess('destroyed');
    const life = this.world.clock.monotonicMs() - old.since;
    if (life < LEAST_LIFE_MS) await sleep(this.world.clock, LEAST_LIFE_MS - life);
    const again = await this.untilDone(old, 'that ended cannot be switched on again yet', wanted, () => {
      this.devices.unlist(old);
      return this.context.create(config, false, { foreign, replaces: domid });
    });
    if (again === undefined) return;
    if (!wanted()) await this.discardUntilDone(again, 'destroyed');
    else
      await this.untilDone(old, 'that ended is on record still', wanted, async () => {
        this.keep(old, 'reboot');
        await this.files.takeBack(old, () => true);
        if (wanted()) this.forget(old, 'destroyed');
      });
  }

  /** Ends a guest for good, also where it has been switched on again as another domain, or is about to be. */
  async destroy(domain: HostedDomain): Promise<void> {
    domain.leaving = true;
    const { domid, state } = domain;
    for (const one of this.all.values())
      if (one === domain || (one.state.replaces === domid && one.state.uuid === state.uuid))
        await this.discard(one, 'destroyed').catch((error: Error) => {
          // The guest has ended, and a record of it would bring it back: this goes on, and the caller learns that it does.
          void this.discardUntilDone(one, 'destroyed');
          const { name } = one.state;
          throw new Failure(
            'io',
            `domain ${name} is ended, but is on record still (${error.message}); it is tried again`,
          );
        });
  }

  /**
   * Records that the guest is in a file from now on; then its domain can be discarded. A daemon that starts in between
   * would otherwise take the end of the process for a crash of the guest. Throws if it cannot be recorded: then the
   * guest is this domain's as before.
   */
  recordSaved(domain: HostedDomain, path: string): void {
    domain.state.exit = { reason: 'saved', details: path };
    try {
      domain.save();
    } catch (error) {
      domain.state.exit = null;
      throw error;
    }
  }

  /** The guest of a domain lives: what is kept of it beside the domain is brought up to date, in the background. */
  lives(domain: HostedDomain): void {
    const { state } = domain;
    const { definitions } = this.context;
    const wanted = (): boolean => this.all.get(domain.domid) === domain && !domain.leaving;
    void this.untilDone(domain, 'has a definition that is out of date', wanted, () => {
      this.define(domain);
      if (state.phase === 'live') definitions.lives(state);
    });
  }

  /** A guest that was defined where it came from is defined here. */
  private define(domain: HostedDomain): void {
    if (domain.state.defined === undefined) return;
    this.context.definitions.keepMoved(domain.state);
    domain.state.defined = undefined;
    domain.save();
  }

  /** What is known of the guest of a domain that is about to be removed is kept, where it is to be. */
  private keep({ state }: HostedDomain, reason: GuestExit['reason']): void {
    const { definitions } = this.context;
    // It lives elsewhere, or has never lived.
    if (reason === 'moved' || state.phase === 'building' || state.phase === 'incoming') return;
    definitions.keepMoved(state);
    if (reason === 'crash') definitions.keepCrashed(state);
    if (reason === 'saved') definitions.keepSaved(state, state.exit?.details ?? '');
  }

  /** Ends the process and removes all files of a domain. */
  async discard(domain: HostedDomain, reason: GuestExit['reason']): Promise<void> {
    domain.leaving = true;
    await domain.endProcess(reason);
    this.keep(domain, reason);
    await this.files.takeBack(domain, () => true);
    this.forget(domain, reason);
  }

  /**
   * Discards a domain that nothing is to remain of. It never rejects: if that fails at first, it goes on in the
   * background until it is done.
   */
  async abandon(domain: HostedDomain, reason: GuestExit['reason']): Promise<void> {
    try {
      await this.discard(domain, reason);
    } catch (error) {
      const { domid } = domain;
      this.log.error(
        { domid, error: (error as Error).message },
        `a domain that is ${reason} is on record still`,
      );
      void this.discardUntilDone(domain, reason);
    }
  }

  /**
   * Removes a domain from the tables. This can be called twice: if a domain is ended while it is being created,
   * something may have been created since the first call.
   */
  private forget(domain: HostedDomain, reason: GuestExit['reason']): void {
    const known = this.all.get(domain.domid);
    if (known !== undefined && known !== domain) return;
    if (known !== undefined) this.context.moves?.removing(domain);
    const { incoming, disks = [] } = domain.state;
    if (incoming !== null && domain.ownedBy(incoming.handover)) this.context.images.settle(disks);
    else this.context.images.discard(disks);
    this.devices.unlist(domain);
    domain.remove();
    if (known === undefined) return;
    this.all.delete(domain.domid);
    this.context.changed(domain, 'gone', { reason });
    this.log.info({ domid: domain.domid, name: domain.state.name }, 'domain is gone');
  }

  /** Ends a domain for good, however often that fails: a full disk, for example, may keep it from being done at once. */
  private async discardUntilDone(domain: HostedDomain, reason: GuestExit['reason']): Promise<void> {
    const known = (): boolean => this.all.get(domain.domid) === domain;
    await this.untilDone(domain, 'that ended is on record still', known, () => this.discard(domain, reason));
  }

  /** Retries `what` until it succeeds or is no longer wanted; then it resolves with undefined. */
  private async untilDone<T>(
    domain: HostedDomain,
    words: string,
    wanted: () => boolean,
    what: () => Promise<T> | T,
  ): Promise<T | undefined> {
    const [first, last] = RESTART_RETRY_MS;
    for (let ms: number = first; wanted(); ms = Math.min(2 * ms, last)) {
      try {
        return await what();
      } catch (error) {
        const { domid } = domain;
        const { name } = domain.state;
        this.log.error({ domid, name, error: (error as Error).message }, `a guest ${words}`);
        await sleep(this.world.clock, ms);
      }
    }
    return undefined;
  }
}
