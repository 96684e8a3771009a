/**
 * Where the helper's program finds things. In a helper domain they are where Linux and `stillpoint wrap` put them. A file
 * with other places, the program's one argument, lets it run on any Linux: tests have a xenstore of their own.
 */
import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { check } from '../protocol/check.js';
import { parseJson } from '../protocol/json.js';
import { fields, is, named, path, text } from '../protocol/shapes.js';
import { REASON } from './init.js';
import { GUEST_CONFIG, GUEST_KERNEL, GUEST_RAMDISK, MOVE_SETTINGS } from './wrap.js';

const MAX_ADDRESS = 4096;

const shape = fields({
  guest: is(path, "the guest's configuration"),
  reason: is(path, 'where init reads why the domain ends'),
  host: is(named(path), 'what src/host/xen/places.ts has otherwise, by name'),
  move: v.optional(is(path, 'what move-settings.ts reads, beside the directory identity')),
  networks: is(named(text(MAX_ADDRESS)), "links in place of the domain's interfaces, by bridge"),
});

export interface Places {
  readonly guest: string;
  readonly reason: string;
  readonly host: Readonly<Record<string, string>>;
  readonly move?: string;
  readonly networks: Readonly<Record<string, string>>;
  /** Files that are memory of the domain, and no longer needed when the guest has them. */
  readonly spent: readonly string[];
}

/** Of a helper domain, or as `file` has them. Throws with what is wrong with the file. */
export function readPlaces(file: string | undefined): Places {
  if (file === undefined)
    return {
      guest: GUEST_CONFIG,
      reason: REASON,
      host: {},
      move: MOVE_SETTINGS,
      networks: {},
      spent: [GUEST_KERNEL, GUEST_RAMDISK],
    };
  return { ...check(shape, parseJson(readFileSync(file, 'utf8')), file), spent: [] };
}
