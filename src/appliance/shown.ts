/**
 * Reads what a helper domain shows of itself (published.ts) from the xenstore of this Xen host, as dom0. A domain can
 * write anything there: all of it is checked, and bounded.
 */
import * as v from 'valibot';
import { check } from '../protocol/check.js';
import { Failure } from '../protocol/failure.js';
import { parseJson } from '../protocol/json.js';
import { quotedName } from '../protocol/name.js';
import { printable } from '../protocol/printable.js';
import { fields, many, named, text } from '../protocol/shapes.js';
import { XenstoreClient, XenstoreError } from '../xenstore/client.js';
import type { PublishedPlace, PublishedPoint } from './published.js';

const MAX_POINTS = 200;
const MAX_PLACES = 16;
const value = text(2048);
const pointShape = fields({ name: value, rows: value, inner: value, outer: many(value, MAX_PLACES) });
const placesShape = many(fields({ domid: v.number(), since: value }), MAX_PLACES);
const stateShape = fields({
  state: value,
  guest: value,
  domid: v.number(),
  moves: v.number(),
  outageNs: v.number(),
});
const factsShape = named(value);

export interface Shown {
  readonly state: v.InferOutput<typeof stateShape>;
  readonly facts: Readonly<Record<string, string>>;
  readonly places: readonly PublishedPlace[];
  readonly points: readonly PublishedPoint[];
}

/** `domain` is its name or its id. */
async function homeOf(xs: XenstoreClient, domain: string): Promise<string> {
  for (const id of await xs.list('/local/domain')) {
    const home = `/local/domain/${id}`;
    if (id === domain || (await xs.read(`${home}/name`).catch(() => undefined)) === domain) return home;
  }
  throw new Failure('no-such-guest', `this Xen host has no domain ${quotedName(domain)}`);
}

/**
 * Calls `body` with a connection to this host's xenstore, and the place there of what the helper shows. Rejects with a
 * Failure if there is no such domain, or no xenstore.
 */
export async function withHelper<T>(
  domain: string,
  socket: string | undefined,
  body: (xs: XenstoreClient, base: string) => Promise<T>,
): Promise<T> {
  const xs = await XenstoreClient.connect({ path: socket }).catch((error: Error) => {
    throw new Failure('io', `the xenstore of this host: ${error.message}`);
  });
  try {
    return await body(xs, `${await homeOf(xs, domain)}/data/stillpoint`);
  } finally {
    await xs.close();
  }
}

/** Rejects with a Failure if there is no such domain, or if it is not a helper's. */
export function readShown(domain: string, socket?: string): Promise<Shown> {
  return withHelper(domain, socket, async (xs, base) => {
    const read = async <S extends v.GenericSchema>(name: string, shape: S): Promise<v.InferOutput<S>> => {
      try {
        return check(shape, parseJson(await xs.read(`${base}/${name}`)), name);
      } catch (error) {
        const words =
          error instanceof XenstoreError ? 'it is not a helper domain' : printable((error as Error).message);
        throw new Failure('no-such-guest', `domain ${quotedName(domain)}, ${name}: ${words}`);
      }
    };
    const state = await read('state', stateShape);
    const [facts, places] = [await read('facts', factsShape), await read('hosts', placesShape)];
    const points: PublishedPoint[] = [];
    const names = (await xs.list(`${base}/points`)).filter((name) => /^\d{1,3}$/.test(name));
    for (const name of names.sort((a, b) => Number(a) - Number(b)).slice(0, MAX_POINTS))
      points.push(await read(`points/${name}`, pointShape));
    return { state, facts, places, points };
  });
}
