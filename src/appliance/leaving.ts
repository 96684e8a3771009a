/** On dom0: has the guest of a helper domain moved to another host. Both ends are nodes of the helper in xenstore. */
import * as v from 'valibot';
import { check } from '../protocol/check.js';
import { Failure } from '../protocol/failure.js';
import { parseJson } from '../protocol/json.js';
import { quotedName } from '../protocol/name.js';
import { fields, quantity, text } from '../protocol/shapes.js';
import type { XenstoreClient } from '../xenstore/client.js';
import { type MoveOrder, writeMoveOrder } from './move-order.js';
import { withHelper } from './shown.js';

const LOOK_MS = 50;
const words = text(2048);
const moveShape = fields({
  state: words,
  to: words,
  at: words,
  error: v.optional(words),
  totalMs: v.optional(quantity),
  downtimeMs: v.optional(quantity),
});
export type Left = Readonly<v.InferOutput<typeof moveShape>>;
const stateShape = fields({ listens: v.optional(words) });

/**
 * Resolves when the guest lives on the other host. `cancelled` gives the move up. Fails with 'move-failed' if the guest
 * continues here, with 'move-unsettled' if that is not known.
 */
export function leaveXen(
  domain: string,
  order: MoveOrder,
  { socket, cancelled }: { readonly socket?: string; readonly cancelled?: AbortSignal } = {},
): Promise<Left> {
  return withHelper(domain, socket, async (xs, base) => {
    const { listens } = check(stateShape, parseJson(await xs.read(`${base}/state`)), 'state');
    if (listens === undefined)
      throw new Failure('bad-state', `the helper of ${quotedName(domain)} was not made with wrap --listen`);
    const before = await textOf(xs, `${base}/move`);
    await xs.write(`${base}/migrate`, writeMoveOrder(order));
    let asked = false;
    let seen = before;
    for (;;) {
      if (cancelled?.aborted === true && !asked) {
        asked = true;
        await xs.write(`${base}/migrate-cancel`, 'yes');
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      const now = await textOf(xs, `${base}/move`);
      if (now === undefined && seen !== undefined && seen !== before)
        throw new Failure('move-unsettled', `the domain of ${quotedName(domain)} has ended amid the move`);
      seen = now;
      if (now === undefined || now === before) continue;
      const move = check(moveShape, parseJson(now), 'move');
      if (move.state === 'moving') continue;
      if (move.state === 'moved') return move;
      throw new Failure(
        move.state === 'stays' ? 'move-failed' : 'move-unsettled',
        `${quotedName(domain)} is not moved to ${quotedName(order.to)}: ${move.error ?? 'no reason'}`,
      );
    }
  });
}

const textOf = (xs: XenstoreClient, path: string): Promise<string | undefined> =>
  xs.read(path).catch(() => undefined);
