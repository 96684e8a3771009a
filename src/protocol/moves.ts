/**
 * What is measured of a move, while it is under way and afterwards. Peers, clients and guests' processes exchange
 * this.
 */
import * as v from 'valibot';
import { clockPolicy } from './guest-config.js';
import { between, count, fields, is, many, oneOf, quantity, text, yes } from './shapes.js';

/** Pages are sent in rounds, each of which is one line of the statistics. */
const MAX_ROUNDS = 10_000;
/** The longest time that a timer of Node can wait, s; also the greatest value of the other limits of a move. */
const limit = between(0, 2_147_483);

export const moveProgress = fields({
  round: is(count, 'the round that has just ended, from 1'),
  pages: is(count, 'pages that were examined in it'),
  sent: is(count, 'pages whose contents were sent'),
  dirty: is(count, 'pages that the guest wrote meanwhile: the work of the next round'),
  mbPerSecond: is(quantity, 'the rate of sending in it', 'MB/s'),
  dirtyPagesPerSecond: is(quantity, 'pages dirtied, measured over this round', 'pages/s'),
  expectedDowntimeMs: is(quantity, 'the stop that would follow now', 'ms'),
});
export const storageProgress = fields({
  copied: is(count, "what was copied of the guest's disks", 'bytes'),
  pending: is(count, 'what is to be copied yet', 'bytes'),
});
export const anyProgress = v.union([moveProgress, storageProgress], 'the progress of a move is expected');
export type MoveProgress = Readonly<v.InferOutput<typeof moveProgress>>;
export type StorageProgress = Readonly<v.InferOutput<typeof storageProgress>>;
export type AnyProgress = MoveProgress | StorageProgress;

/** The limits of a move, as the user sets them. */
export const moveOptions = {
  maxDowntimeMs: is(
    limit,
    'the guest is stopped when sending the rest is expected to take at most this long',
    'ms',
  ),
  maxRounds: is(
    limit,
    'after this many rounds the guest is stopped or the move is given up, depending on onTimeout',
  ),
  timeoutS: is(limit, 'time for copying while the guest runs', 's'),
  onTimeout: is(
    oneOf('cancel', 'force'),
    'what to do when rounds or time run out: give up, or stop the guest and accept the downtime',
  ),
  bandwidthMBs: is(
    limit,
    'the bandwidth limit while the guest runs, in 10^6 bytes; 0 means no limit',
    'MB/s',
  ),
  clock: v.optional(is(clockPolicy, 'what the stop is to the guest; its own setting if it is left out')),
  copyStorage: v.optional(is(yes, 'whether its disks move with it')),
};
export type MoveOptions = Readonly<v.InferOutput<v.ObjectSchema<typeof moveOptions, undefined>>>;

export const DEFAULT_MOVE: MoveOptions = {
  maxDowntimeMs: 30,
  maxRounds: 30,
  timeoutS: 300,
  onTimeout: 'force',
  bandwidthMBs: 0,
};

export const stopReason = oneOf('downtime', 'rounds', 'timeout', 'paused');
const sent = {
  rounds: is(many(moveProgress, MAX_ROUNDS), 'the rounds'),
  bytes: is(count, 'what was sent of the guest', 'bytes'),
  storageBytes: is(count, 'bytes of disks that were read and sent, counted each time', 'bytes'),
  lastPages: is(count, 'pages that were sent while it stood still'),
};

/** What the source's guest process has measured when everything is sent. */
export const sentStats = fields({
  ...sent,
  precopyMs: is(quantity, 'how long the rounds took', 'ms'),
  reason: is(stopReason, 'why the guest was stopped then'),
  stopMs: is(quantity, 'from the word to the standing guest', 'ms'),
  lastPagesMs: is(quantity, 'the last pages', 'ms'),
  stateMs: is(quantity, 'the state', 'ms'),
  stoppedAt: is(quantity, 'when the stop was asked for, on CLOCK_MONOTONIC', 'ms'),
});
export type SentStats = Readonly<v.InferOutput<typeof sentStats>>;

/** The statistics of a whole successful move. */
export const moveStats = fields({
  name: is(text(256), "the guest's name"),
  destination: is(text(320), 'where it lives now'),
  domid: is(v.pipe(v.number(), v.safeInteger()), 'its domain id there; -1 where that is not known'),
  totalMs: is(quantity, 'from the request to the guest running there', 'ms'),
  downtimeMs: is(quantity, 'for how long it stood still', 'ms'),
  parts: is(
    fields({
      stopMs: is(quantity, 'from the word to the standing guest', 'ms'),
      lastPagesMs: is(quantity, 'the last pages', 'ms'),
      stateMs: is(quantity, 'state saved, sent, checked and taken in at the destination', 'ms'),
      handoverMs: is(quantity, 'the messages of the hand-over', 'ms'),
      attachMs: is(quantity, 'its links opened at the destination', 'ms'),
      recordMs: is(quantity, 'the owner record written', 'ms'),
      firstInstructionMs: is(quantity, 'until its first instruction', 'ms'),
    }),
    'the parts of that',
  ),
  ...sent,
  mbPerSecond: is(quantity, 'on the whole', 'MB/s'),
  stopReason: is(stopReason, 'why it was stopped then'),
});
export type MoveStats = Readonly<v.InferOutput<typeof moveStats>>;

/** How long the start of an arrived guest took. */
export const startedInfo = fields({
  attachMs: is(quantity, 'its links opened', 'ms'),
  recordMs: is(quantity, 'the owner record written', 'ms'),
  startMs: is(quantity, 'until its first instruction', 'ms'),
});
export type StartedInfo = Readonly<v.InferOutput<typeof startedInfo>>;
