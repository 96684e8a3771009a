/** The truth about the guests of a simulated world, whatever its daemons believe, and what must never be true. */

import type { GuestConfig } from '../../src/protocol/guest-config.js';
import type { GuestExit } from '../../src/protocol/guest-process.js';
import type { GuestProcess, Memory } from './guest.js';
import type { SimulatedWorld } from './world.js';

export interface GuestTruth {
  readonly uuid: string;
  readonly config: GuestConfig;
  boots: number;
  /** Its state when it last did something. */
  boot: number;
  count: number;
  /** The hosts on which it began to live, and when. */
  readonly arrivals: { readonly host: number; readonly at: number }[];
  /** Somebody has asked for it to live and has no answer yet. */
  asked: boolean;
  /** Somebody was told that it lives. */
  told: boolean;
  /** Why it may live nowhere. */
  readonly mayBeGone: Set<string>;
  /** Why it must not live. */
  mustBeGone: string | undefined;
  /** Its end is to be checked. */
  preserved: boolean;
  /** The boot that a daemon has saved and ended: it may continue only from the file. */
  savedBoot: number | undefined;
  /** Somebody was told that it is defined, and nobody has asked for the opposite since. */
  defined: boolean;
  /** The same of its start with its host. */
  autostart: boolean;
  /** Why it has to live again: its host, or its process, was lost, and it is to be started with its host. */
  comesBack: string | undefined;
}

/** Reasons for which a guest may be gone that are no reasons to forget it. */
const CRASHES = /^(crash$|its process ended|it was to be started no more)/;

export class Truth {
  readonly guests = new Map<string, GuestTruth>();
  readonly violations: string[] = [];

  constructor(private readonly world: SimulatedWorld) {}

  violation(what: string): void {
    this.world.say(`!! ${what}`);
    this.violations.push(what);
  }

  know(config: GuestConfig): GuestTruth {
    const { uuid } = config;
    let guest = this.guests.get(uuid);
    if (guest === undefined) {
      guest = {
        uuid,
        config,
        boots: 0,
        boot: 0,
        count: 0,
        arrivals: [],
        asked: false,
        told: false,
        mayBeGone: new Set(),
        mustBeGone: undefined,
        preserved: false,
        savedBoot: undefined,
        defined: false,
        autostart: false,
        comesBack: undefined,
      };
      this.guests.set(uuid, guest);
    }
    return guest;
  }

  private of(process: GuestProcess): GuestTruth {
    return this.guests.get(process.memory!.uuid)!;
  }
  private others(process: GuestProcess): GuestProcess[] {
    return this.world
      .processes()
      .filter((other) => other !== process && other.memory?.uuid === process.memory!.uuid);
  }
  private name(process: GuestProcess): string {
    return `${this.of(process).config.name} in process ${process.name}`;
  }

  switchedOn(uuid: string): Memory {
    const guest = this.guests.get(uuid)!;
    if (guest.savedBoot !== undefined)
      this.violation(`${guest.config.name} was saved, and is switched on again as if it had ended`);
    return { uuid, boot: ++guest.boots, count: 0 };
  }

  /** A daemon ends the process of a guest that is completely in a file. */
  saved(process: GuestProcess): void {
    const guest = this.of(process);
    guest.savedBoot = process.memory!.boot;
    guest.comesBack = undefined;
  }

  /** The guest belongs to this process from now on. */
  arrives(process: GuestProcess): void {
    const guest = this.of(process);
    guest.arrivals.push({ host: process.host.index, at: this.world.time.now });
    for (const other of this.others(process))
      if (other.phase === 'live' && !other.locked)
        this.violation(`${this.name(process)} lives, and in process ${other.name} it is not locked`);
  }

  starts(process: GuestProcess): void {
    const guest = this.of(process);
    const { boot, count } = process.memory!;
    this.world.say(`guest ${this.name(process)} runs (${boot}.${count})`);
    for (const other of this.others(process))
      if (other.running) this.violation(`two live: ${this.name(process)}, and in process ${other.name}`);
    if (count > 0 && (boot !== guest.boot || count !== guest.count))
      this.violation(
        `${this.name(process)} goes on from ${boot}.${count}, and had come to ${guest.boot}.${guest.count}`,
      );
    if (count > 0) this.world.images.mustHold(process);
  }
  counts(process: GuestProcess): void {
    const guest = this.of(process);
    guest.boot = process.memory!.boot;
    guest.count = process.memory!.count;
  }
  halts(process: GuestProcess): void {
    this.world.say(
      `guest ${this.name(process)} stands still (${process.memory!.boot}.${process.memory!.count})`,
    );
  }

  /** The guest ended by itself. */
  stopped(process: GuestProcess, reason: GuestExit['reason']): void {
    const guest = this.of(process);
    this.world.say(`guest ${this.name(process)} ends: ${reason}`);
    const { onReboot, onPoweroff, onCrash } = guest.config;
    guest.comesBack = undefined;
    const wanted = reason === 'reboot' ? onReboot : reason === 'poweroff' ? onPoweroff : onCrash;
    if (wanted === 'destroy') guest.mayBeGone.add(reason);
    if (wanted === 'preserve') guest.preserved = true;
  }

  /** A fault has ended its process; if `why` is undefined, a daemon has. */
  killed(process: GuestProcess, why?: string): void {
    if (process.memory === undefined || !['live', 'ended'].includes(process.phase)) return;
    const guest = this.of(process);
    if (why === undefined || (process.phase === 'ended' && process.recorded)) return;
    if (guest.autostart && guest.told) {
      const asked = [...guest.mayBeGone].some((one) => /^it was to be (destroyed|saved)/.test(one));
      // Of one that had ended by itself, the daemon may have heard that.
      if (!asked && process.phase === 'live') guest.comesBack = why;
      // Where somebody wants it to be started no more, it stays known.
      guest.mayBeGone.add(`its process ended: ${why}`);
      return;
    }
    if (guest.config.onCrash === 'destroy') guest.mayBeGone.add(`its process ended: ${why}`);
    if (guest.config.onCrash === 'preserve') guest.preserved = true;
  }

  /** A host is booted: the guests that are to be started with it live again, whoever ended them before. */
  booted(index: number): void {
    const { run } = this.world.hosts[index];
    for (const guest of this.guests.values()) {
      const known = run?.daemon?.domains.definitions.get(guest.uuid);
      const saving = [...guest.mayBeGone].some((why) => why.includes('saved'));
      if (!guest.autostart || known?.autostart === undefined || known.autostart === null) continue;
      if (guest.savedBoot !== undefined || saving) continue;
      // What was asked for and has no answer may come to pass after this.
      if (guest.mayBeGone.size > 0) guest.mustBeGone = undefined;
      else if (guest.mustBeGone !== undefined) {
        guest.mustBeGone = undefined;
        guest.comesBack = 'its host was booted';
      }
    }
  }

  /** True if a host knows the guest, beside its domains. */
  private known(uuid: string, kept?: 'defined'): boolean {
    return this.world.hosts.some((host) => {
      const found = host.run?.daemon?.domains.definitions.get(uuid);
      return found !== undefined && (kept === undefined || found.kept === kept);
    });
  }

  // --- when all has settled ---

  /** Every guest must live exactly once, or have an end. */
  check(): void {
    for (const guest of this.guests.values()) {
      const { name } = guest.config;
      const live = this.world
        .processes()
        .filter((process) => process.memory?.uuid === guest.uuid && process.phase === 'live');
      const hosts = live.map((process) => process.host.name).join(' and ');
      if (live.length > 1) this.violation(`${name} lives on ${hosts}`);
      for (const process of live) {
        if (process.locked || process.stoppedByMove)
          this.violation(`${name} stands still for ever on ${process.host.name}`);
        else if (!process.paused && !process.running) this.violation(`${name} does not run on ${hosts}`);
        const known = process.host.run?.daemon?.domains.all.values() ?? [];
        if (![...known].some(({ state }) => state.process?.pid === process.pid && state.phase === 'live'))
          this.violation(`${name} lives on ${hosts}, and the daemon there does not know it`);
      }
      if (live.length > 0 && guest.mustBeGone !== undefined)
        this.violation(`${name} lives on ${hosts}, and was ${guest.mustBeGone}`);
      if (guest.savedBoot !== undefined && live.length > 0)
        this.violation(`${name} was saved and ended, and lives on ${hosts}`);
      const recorded = this.world.hosts.some((host) =>
        [...(host.run?.daemon?.domains.all.values() ?? [])].some(
          ({ state }) => state.uuid === guest.uuid && state.phase === 'ended',
        ),
      );
      if (guest.savedBoot !== undefined && recorded)
        this.violation(`${name} was saved, and a host has it as one that ended by itself`);
      if (guest.defined && !this.known(guest.uuid, 'defined'))
        this.violation(`${name} was defined, and nobody knows it`);
      if (live.length > 0) continue;
      if (guest.preserved && recorded) continue;
      if (guest.comesBack !== undefined)
        this.violation(`${name} is not started again: it is to be, and ${guest.comesBack}`);
      if (guest.mustBeGone !== undefined) continue;
      if (guest.mayBeGone.size > 0) {
        const crashed = [...guest.mayBeGone].every((why) => CRASHES.test(why));
        if (crashed && guest.told && !recorded && !this.known(guest.uuid))
          this.violation(`${name} is forgotten: it crashed, and nobody knows it`);
        continue;
      }
      if (guest.told) this.violation(`${name} is lost: it lives nowhere, and nobody has ended it`);
    }
  }
}
