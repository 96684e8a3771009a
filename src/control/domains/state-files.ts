/** What stands in the daemon's own small files: declared, as a damaged one may have anything. */
import * as v from 'valibot';
import { check } from '../../protocol/check.js';
import { keptGuestConfig } from '../../protocol/guest-config.js';
import { guestExit, processId } from '../../protocol/guest-process.js';
import { count, domid, many, path, port, text, uuid } from '../../protocol/shapes.js';
import type { OutgoingFile } from '../moves/outgoing-move.js';
import type { DomainState } from './domain.js';
import type { ProcessId } from './spawn.js';

const incomingRef = v.object({ handover: text(64), peer: text(256) });
/** Files that a guest's user was let have: what is taken back is named here. */
const grant = v.object({
  path,
  dev: count,
  ino: count,
  how: v.picklist(['entry', 'found', 'owner']),
  perm: count,
  uid: count,
  gid: count,
});
/** Loose: a later version may keep more, and an earlier one that comes back lets it be. */
const domainState = v.looseObject({
  domid,
  name: text(256),
  uuid,
  vcpus: count,
  memoryKib: count,
  config: v.nullable(v.looseObject(keptGuestConfig.entries)),
  process: v.nullable(processId),
  createdMs: v.number(),
  phase: v.picklist(['building', 'incoming', 'live', 'ended']),
  exit: v.nullable(guestExit),
  incoming: v.nullable(incomingRef),
  storePort: count,
  consolePort: count,
  storeFrame: count,
  consoleFrame: count,
  grants: v.optional(many(grant, 4096)),
});
const domids = v.looseObject({ next: domid, generation: v.optional(count) });
const outgoing = v.looseObject({
  handover: text(64),
  domid,
  uuid,
  peer: v.object({ name: text(256), host: text(256), port }),
  record: v.picklist(['offered', 'gone']),
  disks: v.optional(many(path, 256)),
});
const incoming = v.looseObject({ ...incomingRef.entries, uuid });

export function readState(value: unknown, number: number): DomainState {
  const state = check(domainState, value, 'a domain') as unknown as DomainState;
  if (state.domid !== number) throw new Error(`it is of domain ${state.domid}`);
  return state;
}
export const readDomids = (value: unknown): { next: number; generation?: number } =>
  check(domids, value, 'domain ids');
export const readProcessId = (value: unknown): ProcessId => check(processId, value, 'a process');
export const readOutgoing = (value: unknown): OutgoingFile =>
  check(outgoing, value, 'a hand-over') as unknown as OutgoingFile;
export const readIncoming = (value: unknown): { handover: string; peer: string; uuid: string } =>
  check(incoming, value, 'a hand-over');
