/** All messages between two daemons while a guest moves from one to the other. docs/handover.md has their order. */
import * as v from 'valibot';
import {
  autostart,
  diskFormat,
  guestConfig,
  guestName,
  MAX_DEVICES,
  MAX_MEMORY_KIB,
  MAX_VCPUS,
  virtualDevice,
} from './guest-config.js';
import {
  count,
  fields,
  handover,
  is,
  like,
  many,
  oneOf,
  path,
  quantity,
  text,
  uuid,
  whole,
  yes,
} from './shapes.js';
import { notice, request } from './table.js';

/** Maximum length of another host's reason, characters. */
const MAX_REASON = 1000;
const SECTOR_BYTES = 512;

/** A disk that travels with its guest, as the source announces it. */
export const announcedDisk = v.pipe(
  fields({
    devid: is(virtualDevice, 'its number'),
    target: is(
      v.pipe(
        path,
        v.regex(/^\/[^\0]*$/, 'a whole path is expected'),
        v.check((target) => !/\/\.\.?(\/|$)/.test(target), 'it has "." or ".." in it'),
      ),
      "its path, as the guest's configuration has it",
    ),
    format: is(
      v.pipe(
        diskFormat,
        v.check((format) => format !== 'empty', 'an empty drive does not travel'),
      ),
      'of the image',
    ),
    readOnly: is(yes, 'whether the guest may only read it'),
    bytes: is(
      v.pipe(count, v.minValue(1, 'at least 1 is expected')),
      'size of the disk: whole sectors',
      'bytes',
    ),
    fileBytes: v.optional(is(count, 'of a raw file, where it ends within its last sector', 'bytes')),
  }),
  v.check(
    ({ format, bytes, fileBytes }) =>
      fileBytes === undefined || (format === 'raw' && fileBytes > bytes - SECTOR_BYTES && fileBytes < bytes),
    'fileBytes: no end within the last sector of a raw file',
  ),
);
export type AnnouncedDisk = Readonly<v.InferOutput<typeof announcedDisk>>;

/** Requests of a move's source to its destination. */
export const PEER = {
  moveOpen: request(
    'Announces a guest; the destination makes an empty container for it, and listens for its data.',
    {
      params: {
        handover: is(handover, "the move's id, made by the source"),
        name: is(guestName, "the guest's name"),
        uuid: is(uuid, "the guest's identity"),
        vcpus: is(whole(1, MAX_VCPUS), 'its vCPUs'),
        memoryKib: is(whole(1, MAX_MEMORY_KIB), 'the most memory that it may have', 'KiB'),
        versions: is(
          many(v.number('a number is expected'), 256),
          'versions of the stream that the source writes',
        ),
        paused: v.optional(is(yes, 'whether it is paused, and stays so'), false),
        key: v.optional(
          is(
            like(/^[0-9a-f]{64}$/, 'a key'),
            'of the encryption of its data; left out where that is not encrypted',
          ),
        ),
        disks: v.optional(is(many(announcedDisk, MAX_DEVICES), 'disks that travel with it')),
        config: v.optional(
          is(
            guestConfig,
            "its configuration, as the source's daemon has it; version 0.1 has it in the stream only",
          ),
        ),
        defined: v.optional(
          is(
            fields({ autostart: is(v.nullable(autostart), 'when it is started with its host, if it is') }),
            'it is defined at the source, and is to be at the destination; left out of one that is not',
          ),
        ),
      },
      answer: fields({
        version: is(v.number('a number is expected'), 'of the stream: the best of those that were offered'),
        port: is(whole(1, 65_535), 'where its data goes'),
        host: is(text(255), 'host of that; "" for the address of the destination\'s daemon'),
        disks: v.optional(
          is(many(virtualDevice, MAX_DEVICES), 'those of the disks that have to be sent'),
          [],
        ),
        defined: v.optional(
          is(yes, 'whether the destination keeps it defined; a host of version 0.1 does not say so'),
          false,
        ),
      }),
      errors: ['move-failed', 'bad-state', 'name-taken', 'no-room', 'not-trusted', 'crashed', 'timed-out'],
    },
  ),
  clock: request("Tells this host's wall clock, so that the source sees how far its own is off.", {
    params: {},
    answer: is(quantity, 'since 1970', 'ns'),
  }),
};
export type Peer = typeof PEER;

/** Notices of a move's source. */
export const TO_DESTINATION = {
  move: notice(
    'A step of the hand-over at the source.',
    fields({
      handover: is(handover, "the move's id"),
      message: is(oneOf('offer', 'cancel', 'ask', 'forget'), 'the step'),
    }),
  ),
};

/** An invalid time counts as 0. */
const ms = (about: string) => is(v.fallback(v.pipe(v.number(), v.finite(), v.minValue(0)), 0), about, 'ms');

/** Notices of a move's destination. Apart from the step itself, an invalid field counts as missing. */
export const TO_SOURCE = {
  move: notice(
    'A step of the hand-over at the destination.',
    fields({
      handover: is(text(36), "the move's id"),
      message: is(oneOf('ready', 'accepted', 'refused', 'forgotten'), 'the step'),
      reason: v.fallback(
        v.optional(
          is(
            v.pipe(
              v.string(),
              v.transform((s) => s.slice(0, MAX_REASON)),
            ),
            `of \`refused\`: why; of more than ${MAX_REASON} characters the first`,
          ),
        ),
        undefined,
      ),
      domid: v.fallback(v.optional(is(whole(0, 0x7fff), 'of `accepted`: its domain id there')), undefined),
      started: v.fallback(
        v.optional(
          is(
            fields({
              attachMs: ms('its links opened'),
              recordMs: ms('the owner record written'),
              startMs: ms('until its first instruction'),
            }),
            'of `accepted`: what its start took',
          ),
        ),
        undefined,
      ),
    }),
  ),
};
export type ToSourceNotice = Readonly<v.InferOutput<typeof TO_SOURCE.move.params>>;
