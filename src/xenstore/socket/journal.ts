/**
 * Keeps the tree on disk: a snapshot (Xen's migration stream) and a journal of the changes since then.
 *
 * Invariant: once `commit` has returned, its changes are not lost when the process is killed. What is read back is
 * the tree after a whole number of commits, never after a part of one. The snapshot names its journal by a number, so
 * a crash while both are replaced leaves either the old pair or the new one.
 *
 *     FILE            the stream, with a record TYPE_JOURNAL: u64 N
 *     FILE.journal.N  frames: u32 length of the body, u32 CRC-32C of the body, body
 *     body            entries: u16 path length (with 0x8000 set if the node is removed), path; otherwise u64 generation,
 *                     u16 permissions, u16 value length, permissions as in a NODE_DATA record, value
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { crc32c } from '../../records/crc32c.js';
import { ByteReader, ByteWriter } from '../../records/fields.js';
import { apply } from '../core/commit.js';
import type { Content } from '../core/tree.js';
import type { XenstoreServer } from '../server/server.js';
import { getCount, putCount } from '../state/exact.js';
import { getOctets, putOctets, readPermissions, writePermissions } from '../state/records.js';
import { restoreState } from '../state/restore.js';
import { saveState } from '../state/save.js';
import { readStream, TYPE_JOURNAL } from '../state/stream.js';

const GONE = 0x8000;
const FRAME_HEADER_BYTES = 8;
/** A new snapshot is written when the journal is larger than this (in bytes) and larger than the last snapshot. */
const FOLD_ABOVE_BYTES = 4 * 1024 * 1024;
/** A loss of power (unlike a kill) may lose the changes of at most this time, in ms. */
const SYNC_EVERY_MS = 1000;

export class Journal {
  private fd = -1;
  private number = 0;
  private pending = new ByteWriter();
  private journalBytes = 0;
  private snapshotBytes = 0;
  private stale = false;
  private syncing = false;
  private readonly timer: NodeJS.Timeout;

  /** Reads `file` into a server that has not served anything yet, and from then on keeps the file up to date. */
  constructor(
    private readonly server: XenstoreServer,
    private readonly file: string,
    private readonly foldAboveBytes = FOLD_ABOVE_BYTES,
  ) {
    if (existsSync(file)) this.load();
    this.fold();
    server.store.onStored = (path, content) => writeEntry(this.pending, path, content);
    server.onSettings = () => {
      this.stale = true;
    };
    this.timer = setInterval(() => this.sync(), SYNC_EVERY_MS);
    this.timer.unref();
  }

  /** Makes all changes so far durable. To be called before anybody is told anything that depends on them. */
  commit(): void {
    if (this.stale) {
      this.fold();
      return;
    }
    if (this.pending.length === 0) return;
    const body = this.pending.done();
    const frame = new Uint8Array(FRAME_HEADER_BYTES + body.length);
    const view = new DataView(frame.buffer);
    view.setUint32(0, body.length, true);
    view.setUint32(4, crc32c(body, 0, body.length), true);
    frame.set(body, FRAME_HEADER_BYTES);
    writeAll(this.fd, frame);
    this.pending = new ByteWriter();
    this.journalBytes += frame.length;
    if (this.journalBytes > this.foldAboveBytes && this.journalBytes > this.snapshotBytes) this.fold();
  }

  /** Writes a last snapshot. Later changes are not kept. */
  close(): void {
    clearInterval(this.timer);
    this.fold();
    closeSync(this.fd);
    this.server.store.onStored = undefined;
  }

  /** Writes a new snapshot with an empty journal and replaces the old pair atomically. */
  private fold(): void {
    const number = this.number + 1;
    const bytes = saveState(this.server, { connections: false, journal: number });
    const fd = openSync(this.journalName(number), 'w', 0o600);
    const temporary = `${this.file}.new`;
    const snapshot = openSync(temporary, 'w', 0o600);
    writeAll(snapshot, bytes);
    fsyncSync(snapshot);
    closeSync(snapshot);
    renameSync(temporary, this.file);
    const directory = openSync(dirname(this.file), 'r');
    fsyncSync(directory);
    closeSync(directory);
    if (this.fd >= 0) closeSync(this.fd);
    for (const name of readdirSync(dirname(this.file))) {
      const old = name.startsWith(`${basename(this.file)}.journal.`);
      if (old && name !== basename(this.journalName(number))) rmSync(join(dirname(this.file), name));
    }
    this.fd = fd;
    this.number = number;
    this.pending = new ByteWriter();
    this.journalBytes = 0;
    this.snapshotBytes = bytes.length;
    this.stale = false;
  }

  private load(): void {
    const bytes = readFileSync(this.file);
    restoreState(this.server, bytes);
    this.number = readStream(bytes)
      .filter((r) => r.type === TYPE_JOURNAL)
      .map((r) => getCount(r.body))
      .reduce((_, n) => n, 0);
    const journal = this.journalName(this.number);
    if (existsSync(journal)) replay(this.server, readFileSync(journal));
  }

  private journalName(number: number): string {
    return `${this.file}.journal.${number}`;
  }

  private sync(): void {
    if (this.syncing || this.journalBytes === 0) return;
    this.syncing = true;
    fdatasync(this.fd, () => {
      this.syncing = false;
    });
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

function writeEntry(w: ByteWriter, path: string, content: Content | undefined): void {
  w.u16(path.length | (content === undefined ? GONE : 0));
  putOctets(w, path);
  if (content === undefined) return;
  putCount(w, content.generation);
  w.u16(content.permissions.length);
  w.u16(content.value.length);
  writePermissions(w, content.permissions);
  putOctets(w, content.value);
}

/** Repeats the changes of all complete frames. An incomplete frame was never acknowledged. */
function replay(server: XenstoreServer, bytes: Uint8Array): void {
  const { store } = server;
  const { tree } = store;
  let { generation } = store;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, true);
    const from = at + FRAME_HEADER_BYTES;
    if (from + length > bytes.length) break;
    if (crc32c(bytes, from, from + length) !== view.getUint32(at + 4, true)) break;
    const r = new ByteReader(bytes.subarray(from, from + length), from);
    while (r.at < length) {
      const head = r.u16();
      const path = getOctets(r, head & ~GONE);
      let content: Content | undefined;
      if ((head & GONE) === 0) {
        const own = getCount(r);
        const count = r.u16();
        const valueBytes = r.u16();
        const permissions = readPermissions(r, count);
        content = { generation: own, permissions, value: getOctets(r, valueBytes) };
        generation = Math.max(generation, own);
        // The domains that the permissions name were known when the entry was written.
        for (const p of permissions) if (!p.ignored) store.accounts.of(p.domid, own - 1);
      }
      apply(tree, path, content);
    }
    at = from + length;
  }
  store.restore(tree, generation);
  store.accounts.recount(tree);
}
