/** `save` and `restore`: the migration stream between a guest's process and a file that only the daemon can reach. */

import { DATA_SOCKET } from '../../guest-process/guest-files.js';
import type { SavedImage } from '../../migration/image-file.js';
import { preambleRecord } from '../../migration/stream-records.js';
import { Failure } from '../../protocol/failure.js';
import type { GuestConfig } from '../../protocol/guest-config.js';
import { DEFAULT_MOVE } from '../../protocol/moves.js';
import { RecordError } from '../../records/fields.js';
import {
  decodeRaw,
  decodeRecord,
  type RawRecord,
  RECORD_HEADER_BYTES,
  recordSize,
} from '../../records/record.js';
import { type Domains, mustBeOf } from '../domains/domains.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import { dataOf } from '../domains/process-data.js';
import { openSavedConfig, savedConfig, savedConfigRecord } from './saved-config.js';

/** The longest of the records before the memory, bytes. */
const MAX_HEAD_BYTES = 4 << 20;

export interface SaveStats {
  readonly bytes: number;
  readonly totalMs: number;
}

/**
 * Saves the guest to `path` and then ends it, or lets it run on (`keep`). If saving fails, the guest runs on. While it
 * is being saved, no move of it and no other save can begin: each of them would let it run on while the other needs
 * that it stands still.
 */
export async function saveDomain(
  domains: Domains,
  domain: HostedDomain,
  path: string,
  keep: boolean,
): Promise<SaveStats> {
  domain.saving = true;
  try {
    return await save(domains, domain, path, keep);
  } finally {
    domain.saving = false;
  }
}

async function save(domains: Domains, domain: HostedDomain, path: string, keep: boolean): Promise<SaveStats> {
  const { clock, images } = domains.world;
  const started = clock.monotonicMs();
  const { config, foreign = [] } = domain.state;
  if (config === null) throw new Failure('bad-state', 'the configuration of this guest is not known here');
  const image = await images.create(path);
  let written = 0;
  const over = new AbortController();
  try {
    // The stream of the guest's process follows the record that the daemon itself writes.
    const head = savedConfig(domains.world, domains.dir, config, foreign);
    await image.sink(head);
    const to = { path: DATA_SOCKET, host: '', port: 0, identity: 'save' };
    // Nobody notices how long a guest stands still while it is saved: one round, then the rest.
    const options = { ...DEFAULT_MOVE, maxRounds: 1 };
    const sent = domain.ask('send', { to, options, handover: false });
    const stored = dataOf(domains.world, domain, over.signal).then(async (socket) => {
      for await (const chunk of socket as AsyncIterable<Uint8Array>) {
        await image.sink(chunk);
        written += chunk.length;
      }
    });
    stored.catch(() => {});
    const failed = stored.then(() => new Promise<never>(() => {}));
    const { bytes } = await Promise.race([sent, failed]);
    await stored;
    if (written !== bytes) throw new Failure('io', `${bytes} bytes were sent, ${written} were written`);
    written += head.length;
    await image.commit();
    if (!keep) {
      try {
        domains.ends.recordSaved(domain, path);
      } catch (error) {
        const { message } = error as Error;
        throw new Failure(
          'io',
          `${path} is whole, and the guest goes on here: its end is not recorded (${message})`,
        );
      }
    }
  } catch (error) {
    over.abort();
    await image.discard();
    await domain.ask('abortSend', { reason: 'the image cannot be written' }).catch(() => {});
    await domain.ask('resume', {}).catch(() => {});
    throw error;
  }
  if (keep) await domain.ask('resume', {});
  else await domains.ends.abandon(domain, 'saved');
  return { bytes: written, totalMs: clock.monotonicMs() - started };
}

/** A file of a saved guest, and what its head says. */
interface SavedGuest {
  readonly file: SavedImage;
  /** Offset at which the stream begins. */
  readonly from: number;
  readonly name: string;
  readonly uuid: string;
  readonly frames: number;
  /** Undefined in a file of version 0.1, which has it in the stream. */
  readonly saved: { readonly config: GuestConfig; readonly foreign: readonly string[] } | undefined;
}

async function readRecord(file: SavedImage, at: number): Promise<{ record: RawRecord; end: number }> {
  const header = new Uint8Array(RECORD_HEADER_BYTES);
  const bytesRead = await file.read(header, at);
  if (bytesRead < RECORD_HEADER_BYTES)
    throw new RecordError(at + bytesRead, 'the file ends in its first records');
  const size = recordSize(header);
  if (size > MAX_HEAD_BYTES) throw new RecordError(at, 'not an image of a guest');
  const record = new Uint8Array(size);
  const whole = await file.read(record, at);
  return { record: decodeRaw(record.subarray(0, whole)), end: at + size };
}

async function openSaved(domains: Domains, path: string): Promise<SavedGuest> {
  const { world, dir } = domains;
  const file = await world.images.open(path);
  try {
    let from = 0;
    let { record, end } = await readRecord(file, 0);
    let saved: SavedGuest['saved'];
    if (record.tag === savedConfigRecord.tag) {
      const { config, foreign } = openSavedConfig(world, dir, decodeRecord(savedConfigRecord, record));
      saved = { config, foreign: foreign ?? domains.files.namedFiles(config) };
      from = end;
      ({ record, end } = await readRecord(file, from));
    }
    const { name, uuid, frames } = decodeRecord(preambleRecord, record);
    if (saved !== undefined) mustBeOf({ name, uuid }, saved.config, "the stream's head");
    return { file, from, name, uuid, frames, saved };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Creates a guest from a saved image. Its configuration is treated as foreign unless this daemon itself has written
 * it. If this fails, no guest was started and the image is unchanged.
 */
export async function restoreDomain(
  domains: Domains,
  path: string,
  paused: boolean,
  overcommit = false,
): Promise<HostedDomain> {
  const { file, from, name, uuid, frames, saved } = await openSaved(domains, path);
  try {
    if (saved !== undefined) await domains.files.admit(saved.config, saved.foreign);
    const domain = await domains.make({
      name,
      uuid,
      vcpus: saved?.config.vcpus ?? 1,
      memoryKib: saved?.config.maxMemoryKib ?? frames * 4,
      config: saved?.config ?? null,
      foreign: saved?.foreign,
      saved: true,
      overcommit,
      incoming: null,
    });
    try {
      const to = { path: DATA_SOCKET, host: '', identity: 'restore' };
      const expected = domain.expectation();
      await domain.ask('receive', { host: domains.grant(domain), from: to, ports: [0], disks: [], expected });
      const socket = await dataOf(domains.world, domain);
      // The guest's process reports what is wrong with the image; the broken pipe that follows says less.
      const copied = file.copyTo(socket, from).catch(() => {});
      domains.arrived(domain, await domain.ask('received', {}));
      await copied;
      await domains.introduce(domain, domain.state.config!);
      await domain.ask('go', { handover: null, paused });
      domains.settle(domain);
      await domains.files.keepDisks(domain);
      return domain;
    } catch (error) {
      await domains.ends.abandon(domain, 'failed');
      throw error;
    }
  } finally {
    await file.close();
  }
}
