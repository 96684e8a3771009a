/**
 * What a helper domain needs to move its guest to another host, or to take it in: `wrap --listen` writes it, beside the
 * helper's identity. A helper without this file listens to nobody.
 */
import { existsSync, readFileSync } from 'node:fs';
import * as v from 'valibot';
import { check } from '../protocol/check.js';
import { parseJson } from '../protocol/json.js';
import { fields, is, like, whole } from '../protocol/shapes.js';

const PART = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
export const IPV4 = new RegExp(`^${PART}([.]${PART}){3}$`);
const ipv4 = like(IPV4, 'an IPv4 address');

const shape = fields({
  address: is(ipv4, 'where the helper listens'),
  port: is(whole(0, 65_534), 'its port; a guest arrives at the one after it; 0 for any two'),
  vif: v.optional(
    is(
      fields({
        mac: is(like(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/, 'a hardware address'), 'its hardware address'),
        prefix: is(whole(1, 32), 'length of its network', 'bits'),
        gateway: v.optional(is(ipv4, 'the way to other networks')),
      }),
      "the helper's own vif, which gets the address; left out: the machine has it",
    ),
  ),
});
export type MoveSettings = Readonly<v.InferOutput<typeof shape>>;

/** Undefined if there is no such file. Throws with what is wrong with it. */
export function readMoveSettings(file: string | undefined): MoveSettings | undefined {
  if (file === undefined || !existsSync(file)) return undefined;
  return check(shape, parseJson(readFileSync(file, 'utf8')), file);
}
