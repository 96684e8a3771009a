/**
 * What dom0 writes into data/stillpoint/migrate of a helper domain so that its guest moves to another host: that host's
 * name or address by itself, or an object (JSON) in which a move's limits are, too.
 */
import * as v from 'valibot';
import { checked } from '../protocol/checked.js';
import { parseJson } from '../protocol/json.js';
import { DEFAULT_MOVE, type MoveOptions, moveOptions } from '../protocol/moves.js';
import { exactly, is, someText } from '../protocol/shapes.js';

const { maxDowntimeMs, maxRounds, timeoutS, onTimeout, bandwidthMBs, clock } = moveOptions;
const order = exactly({
  to: is(someText(320), 'where to: a trusted name, or HOST:PORT'),
  maxDowntimeMs: v.optional(maxDowntimeMs, DEFAULT_MOVE.maxDowntimeMs),
  maxRounds: v.optional(maxRounds, DEFAULT_MOVE.maxRounds),
  timeoutS: v.optional(timeoutS, DEFAULT_MOVE.timeoutS),
  onTimeout: v.optional(onTimeout, DEFAULT_MOVE.onTimeout),
  bandwidthMBs: v.optional(bandwidthMBs, DEFAULT_MOVE.bandwidthMBs),
  clock,
});

export interface MoveOrder {
  readonly to: string;
  readonly options: MoveOptions;
}

export const writeMoveOrder = ({ to, options }: MoveOrder): string => {
  const { copyStorage: _, ...rest } = options;
  return JSON.stringify({ to, ...rest });
};

/** Throws a Failure that names the field. */
export function readMoveOrder(value: string): MoveOrder {
  const given = value.startsWith('{') ? parseJson(value) : { to: value };
  const { to, ...options } = checked(order, given, 'the order to migrate', 'usage');
  return { to, options };
}
