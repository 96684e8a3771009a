/** `save` and `restore`: the migration stream between a guest's process and a file that only the daemon can reach. */
import { once } from 'node:events';
import { open as openFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createImage, readImage } from '../migration/image-file.js';
import { DEFAULT_MOVE } from '../migration/source.js';
import { MAX_RECORD_BYTES, preambleRecord } from '../migration/stream-records.js';
import { RecordError } from '../records/fields.js';
import { decodeRaw, decodeRecord, RECORD_HEADER_BYTES, recordSize } from '../records/record.js';
import { Domain } from './domain.js';
import type { Domains } from './domains.js';
import { Failure } from './failure.js';
import { DATA_SOCKET } from './guest-protocol.js';

export interface SaveStats {
  readonly bytes: number;
  readonly totalMs: number;
}

/** Saves the guest to `path` and ends it here, or lets it go on (`keep`). When this fails the guest goes on. */
export async function saveDomain(
  domains: Domains,
  domain: Domain,
  path: string,
  keep: boolean,
): Promise<SaveStats> {
  const started = performance.now();
  const image = await createImage(path);
  const socketPath = join(domain.directory, DATA_SOCKET);
  await rm(socketPath, { force: true });
  const server = net.createServer();
  let written = 0;
  try {
    server.listen({ path: socketPath });
    await once(server, 'listening');
    Domain.shareSocket(socketPath);
    const stored = once(server, 'connection').then(async ([socket]: net.Socket[]) => {
      for await (const chunk of socket as AsyncIterable<Uint8Array>) {
        await image.sink(chunk);
        written += chunk.length;
      }
    });
    stored.catch(() => {});
    const to = { path: DATA_SOCKET, host: '', port: 0, identity: 'save' };
    // Nobody waits for a guest that is being saved to stop: one round, then the rest.
    const options = { ...DEFAULT_MOVE, maxRounds: 1 };
    const sent = domain.ask('send', { to, options, handover: false });
    const failed = stored.then(() => new Promise<never>(() => {}));
    const { bytes } = await Promise.race([sent, failed]);
    await stored;
    if (written !== bytes) throw new Failure('io', `${bytes} bytes were sent, ${written} were written`);
    await image.commit();
  } catch (error) {
    await image.discard();
    await domain.ask('abortSend', { reason: 'the image cannot be written' }).catch(() => {});
    await domain.ask('resume', {}).catch(() => {});
    throw error;
  } finally {
    server.close();
    await rm(socketPath, { force: true });
  }
  if (keep) await domain.ask('resume', {});
  else await domains.discard(domain, 'saved');
  return { bytes: written, totalMs: performance.now() - started };
}

async function readHead(path: string): Promise<{ name: string; uuid: string; frames: number }> {
  const file = await openFile(path, 'r');
  try {
    const header = new Uint8Array(RECORD_HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, RECORD_HEADER_BYTES, 0);
    if (bytesRead < RECORD_HEADER_BYTES)
      throw new RecordError(bytesRead, 'the file ends in its first record');
    const size = recordSize(header);
    if (size > Math.min(MAX_RECORD_BYTES, 65_536)) throw new RecordError(0, 'not an image of a guest');
    const record = new Uint8Array(size);
    const whole = await file.read(record, 0, size, 0);
    return decodeRecord(preambleRecord, decodeRaw(record.subarray(0, whole.bytesRead)));
  } finally {
    await file.close();
  }
}

/** Makes a guest from a saved image. When this fails nothing was started and the image is as it was. */
export async function restoreDomain(domains: Domains, path: string, paused: boolean): Promise<Domain> {
  const { name, uuid, frames } = await readHead(path);
  const domain = await domains.make({
    name,
    uuid,
    vcpus: 1,
    memoryKib: frames * 4,
    config: null,
    incoming: null,
  });
  try {
    const from = { path: DATA_SOCKET, host: '', identity: 'restore' };
    await domain.ask('receive', { host: domains.grant(domain), from, ports: [0], disks: [] });
    const socket = net.connect({ path: join(domain.directory, DATA_SOCKET) });
    // What is wrong with the image is said by the guest's process, not by the broken pipe that follows.
    const copied = pipeline(readImage(path), socket).catch(() => {});
    const { config } = await domain.ask('received', {});
    await copied;
    domain.state.config = config;
    domain.state.vcpus = config.vcpus;
    await domains.introduce(domain, config);
    await domain.ask('go', { handover: null, paused });
    domains.settle(domain);
    await domains.keepDisks(domain);
    return domain;
  } catch (error) {
    await domains.discard(domain, 'failed');
    throw error;
  }
}
