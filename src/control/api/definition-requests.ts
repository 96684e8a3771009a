/** The verbs that define guests: what the daemon does for each. */

import type { DefinedRow } from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import type { AutostartPlan, GuestConfig } from '../../protocol/guest-config.js';
import type { Definition } from '../domains/definitions.js';
import { checkName } from '../domains/domains.js';
import type { HostDaemon } from '../host-daemon.js';

/** A configuration as it is kept, and the warnings that its reader has left in it, which are for who asked. */
export function withoutWarnings(config: GuestConfig): {
  kept: GuestConfig;
  warnings: readonly string[] | undefined;
} {
  const { warnings, ...more } = config.more;
  if (!Array.isArray(warnings)) return { kept: config, warnings: undefined };
  return { kept: { ...config, more }, warnings: warnings.filter((one) => typeof one === 'string') };
}

export function definedRow({ domains }: HostDaemon, definition: Definition): DefinedRow {
  const { config, uuid, kept, autostart, saved } = definition;
  return {
    name: config.name,
    uuid,
    memoryMib: Math.round(config.memoryKib / 1024),
    vcpus: config.onlineVcpus ?? config.vcpus,
    kept,
    autostart,
    pending: domains.autostart.isPending(uuid),
    saved,
    domid: domains.ofGuest(uuid)?.domid ?? null,
  };
}

/** What is known of a guest beside its domain. `reference`: domain id, name or uuid; `called`: for messages. */
export function known(daemon: HostDaemon, reference: string, called: string): Definition {
  const { domains } = daemon;
  const found = domains.definitions.find(reference);
  if (found !== undefined) return found;
  const { state } = domains.find(reference, called);
  const definition = domains.definitions.get(state.uuid);
  if (definition !== undefined) return definition;
  throw new Failure('bad-state', `${state.name} runs as domain ${state.domid}, and is not defined`);
}

/** The uuid of a guest without one in its configuration: that of the guest of this name, if one is known here. */
export function knownUuid({ domains, world }: HostDaemon): (name: string) => string {
  return (name) => {
    const running = [...domains.all.values()].find(({ state }) => state.name === name);
    return running?.state.uuid ?? domains.definitions.find(name)?.uuid ?? world.chance.uuid();
  };
}

/** Fails while a move of the guest is under way: what it takes along was said when it began. */
function mustRest({ domains, moves }: HostDaemon, uuid: string): void {
  const domain = domains.ofGuest(uuid);
  if (domain !== undefined) moves.mustRest(domain);
  else if (moves.concerns(uuid)) throw new Failure('bad-state', 'where the guest lives is not settled');
}

export function define(daemon: HostDaemon, given: GuestConfig): DefinedRow {
  const { kept: config, warnings } = withoutWarnings(given);
  const { domains, world } = daemon;
  checkName(config.name);
  const uuid = config.uuid.toLowerCase();
  domains.nameMustBeFree(config.name, config.uuid);
  mustRest(daemon, uuid);
  domains.files.checkFiles(config, []);
  const before = domains.definitions.get(uuid);
  const definition: Definition = {
    uuid,
    config,
    foreign: [],
    sinceMs: world.clock.wallMs(),
    kept: 'defined',
    autostart: before?.autostart ?? null,
    saved: before?.saved,
  };
  domains.definitions.put(definition);
  return { ...definedRow(daemon, definition), warnings };
}

export function undefine(daemon: HostDaemon, reference: string, called: string): null {
  const { definitions, autostart } = daemon.domains;
  const { uuid } = known(daemon, reference, called);
  mustRest(daemon, uuid);
  autostart.withdraw(uuid);
  definitions.remove(uuid);
  return null;
}

export function setAutostart(
  daemon: HostDaemon,
  reference: string,
  called: string,
  plan: AutostartPlan | null,
): DefinedRow {
  const { definitions, autostart, find } = daemon.domains;
  const definition =
    definitions.find(reference) ??
    definitions.of(find.call(daemon.domains, reference, called).state, 'defined');
  if (definition === undefined)
    throw new Failure('bad-state', `the configuration of ${called} is not known here`);
  mustRest(daemon, definition.uuid);
  const planned: Definition = { ...definition, kept: 'defined', autostart: plan };
  if (plan === null) autostart.withdraw(definition.uuid);
  definitions.put(planned);
  return definedRow(daemon, planned);
}
