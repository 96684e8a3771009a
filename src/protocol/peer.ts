/**
 * All that one host's daemon says to another's, as a table: a request, an answer or a notice is held against it before
 * any of it is used. What the table does not name is left out.
 */
import * as v from 'valibot';
import { guestConfig, guestName, MAX_DEVICES, MAX_MEMORY_KIB, MAX_VCPUS } from './guest-config.js';
import { handover, like, text, uuid, whole } from './shapes.js';

/** Characters of another host's reason. */
const MAX_REASON = 1000;

/** The request that opens a move. */
export const moveOpenRequest = v.object({
  handover,
  name: guestName,
  uuid,
  vcpus: whole(1, MAX_VCPUS),
  memoryKib: whole(1, MAX_MEMORY_KIB),
  versions: v.pipe(v.array(v.number()), v.maxLength(256)),
  paused: v.optional(v.boolean(), false),
  /** Undefined where the data goes unencrypted, on loopback. */
  key: v.optional(like(/^[0-9a-f]{64}$/, 'a key')),
  /** Of disks that travel with the guest; storage.ts looks at each. */
  disks: v.optional(v.array(v.unknown())),
  /** As the source's daemon has it. Daemons of version 0.1 send none: it is in the stream then. */
  config: v.optional(guestConfig),
});

/** Its answer. */
export const moveOpenAnswer = v.object({
  version: v.number(),
  port: whole(1, 65_535),
  /** "" for the address of the destination's daemon. */
  host: text(255),
  disks: v.optional(v.pipe(v.array(whole(0, 0x7fff_ffff)), v.maxLength(MAX_DEVICES)), []),
});

/** What the source of a move says of it. */
export const toDestinationNotice = v.object({
  handover,
  message: v.picklist(['offer', 'cancel', 'ask', 'forget']),
});

/** A time that is none counts as nothing. */
const ms = v.fallback(v.pipe(v.number(), v.finite(), v.minValue(0)), 0);
const started = v.object({ attachMs: ms, recordMs: ms, startMs: ms });

/** What the destination says of it. */
export const toSourceNotice = v.object({
  handover: text(36),
  message: v.picklist(['ready', 'accepted', 'refused', 'forgotten']),
  reason: v.fallback(
    v.optional(
      v.pipe(
        v.string(),
        v.transform((s) => s.slice(0, MAX_REASON)),
      ),
    ),
    undefined,
  ),
  domid: v.fallback(v.optional(whole(0, 0x7fff)), undefined),
  started: v.fallback(v.optional(started), undefined),
});

/** The answer to `clock`: ns since 1970. */
export const clockAnswer = v.pipe(v.number(), v.finite());

export const helloRequest = v.object({ versions: v.pipe(v.array(v.unknown()), v.maxLength(256)) });
