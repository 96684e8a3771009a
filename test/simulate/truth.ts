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
}

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
    this.of(process).savedBoot = process.memory!.boot;
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
    const wanted = reason === 'reboot' ? onReboot : reason === 'poweroff' ? onPoweroff : onCrash;
    if (wanted === 'destroy') guest.mayBeGone.add(reason);
    if (wanted === 'preserve') guest.preserved = true;
  }

  /** A fault has ended its process; if `why` is undefined, a daemon has. */
  killed(process: GuestProcess, why?: string): void {
    if (process.memory === undefined || !['live', 'ended'].includes(process.phase)) return;
    const guest = this.of(process);
    if (why === undefined || (process.phase === 'ended' && process.recorded)) return;
    if (guest.config.onCrash === 'destroy') guest.mayBeGone.add(`its process ended: ${why}`);
    if (guest.config.onCrash === 'preserve') guest.preserved = true;
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
      if (live.length > 0 || guest.mustBeGone !== undefined || guest.mayBeGone.size > 0) continue;
      if (guest.preserved && recorded) continue;
      if (guest.told) this.violation(`${name} is lost: it lives nowhere, and nobody has ended it`);
    }
  }
}
