/**
 * The record that a daemon writes at the head of a saved guest: the guest's configuration as the daemon knows it,
 * before the stream that the guest's process writes. A seal (an HMAC) proves that this daemon wrote it; then files
 * that an operator of this host had named count as named by an operator again. Without the seal, as in a file from
 * another host, the configuration is foreign (places.ts).
 *
 * The key of the seal is in DIR/save.json (0600). It is made when it is first needed.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { readJson, writeDurable } from '../../os/durable.js';
import { type GuestConfig, readConfigRecord } from '../../protocol/guest-config.js';
import { bytes, list, text } from '../../records/fields.js';
import { encodeRecord, recordType } from '../../records/record.js';
import { readSeal } from '../domains/state-files.js';
import type { World } from '../world.js';

export const savedConfigRecord = recordType(
  'CONF',
  1,
  "a guest's configuration, before the stream in a file",
  {
    config: [text, 'as the daemon that saved it has it, JSON'],
    foreign: [list(text), 'files in it that no operator named at that daemon'],
    seal: [bytes, "HMAC-SHA-256 of the other two under that daemon's key"],
  },
);
type SavedConfig = Parameters<typeof savedConfigRecord.body.write>[1];

const SEALED = 'stillpoint: the configuration of a saved guest, version 1';

function key({ files, chance }: World, dir: string): Buffer {
  const path = join(dir, 'save.json');
  const found = readJson(path, files);
  if (found !== undefined) return Buffer.from(readSeal(found).key, 'hex');
  const made = chance.bytes(32);
  writeDurable(path, { key: made.toString('hex') }, files);
  return made;
}

const sealOf = (world: World, dir: string, config: string, foreign: readonly string[]): Buffer =>
  createHmac('sha256', key(world, dir))
    .update(JSON.stringify([SEALED, config, foreign]))
    .digest();

/** The record, sealed by the daemon in `dir`. */
export function savedConfig(
  world: World,
  dir: string,
  config: GuestConfig,
  foreign: readonly string[],
): Uint8Array {
  const json = JSON.stringify(config);
  return encodeRecord(savedConfigRecord, {
    config: json,
    foreign: [...foreign],
    seal: sealOf(world, dir, json, foreign),
  });
}

/**
 * What such a record says to the daemon in `dir`: the configuration, and the files in it that no operator named. The
 * latter is undefined if another daemon wrote the record: then all of its files are foreign.
 */
export function openSavedConfig(
  world: World,
  dir: string,
  record: SavedConfig,
): { config: GuestConfig; foreign: readonly string[] | undefined } {
  const { config: json, foreign, seal } = record;
  const right = sealOf(world, dir, json, foreign);
  const ours = seal.length === right.length && timingSafeEqual(seal, right);
  const config = readConfigRecord(json);
  return { config, foreign: ours ? foreign : undefined };
}
