/** Readers of the daemon's own small files (src/protocol/daemon-files.ts): each throws with what is wrong, and where. */
import type * as v from 'valibot';
import { check } from '../../protocol/check.js';
import { DAEMON_FILES } from '../../protocol/daemon-files.js';
import type { OutgoingFile } from '../moves/outgoing-move.js';
import type { Crash } from './crashes.js';
import type { Definition } from './definitions.js';
import type { HostedDomainState } from './hosted-domain.js';
import type { ProcessId } from './spawn.js';

/** What a file is declared to have, held against the type that is used here. */
const reader =
  <T>(shape: v.GenericSchema<unknown, T>, what: string) =>
  (value: unknown): T =>
    check(shape, value, what);

const readDomain = reader<HostedDomainState>(DAEMON_FILES.state.shape, 'a domain');

export function readState(value: unknown, number: number): HostedDomainState {
  const state = readDomain(value);
  if (state.domid !== number) throw new Error(`it is of domain ${state.domid}`);
  return state;
}
const readDefined = reader<Definition>(DAEMON_FILES.definition.shape, 'a definition');

export function readDefinition(value: unknown, uuid: string): Definition {
  const definition = readDefined(value);
  if (definition.uuid !== uuid) throw new Error(`it is of the guest ${definition.uuid}`);
  return definition;
}
export const readBoot = reader<{ boot: string; pending: readonly string[] }>(
  DAEMON_FILES.boot.shape,
  'a boot',
);
export const readCrash = reader<Crash>(DAEMON_FILES.crash.shape, 'a crash');
export const readDomids = reader<{ next: number; generation?: number }>(
  DAEMON_FILES.domids.shape,
  'domain ids',
);
export const readProcessId = reader<ProcessId>(DAEMON_FILES.process.shape, 'a process');
export const readOutgoing = reader<OutgoingFile>(DAEMON_FILES.outgoing.shape, 'a hand-over');
export const readIncoming = reader<{ handover: string; peer: string; uuid: string }>(
  DAEMON_FILES.incoming.shape,
  'a hand-over',
);
export const readSeal = reader<{ key: string }>(DAEMON_FILES.seal.shape, 'the key of a seal');
