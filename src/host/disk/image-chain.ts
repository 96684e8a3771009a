/**
 * The files that an image in a QEMU format names: its backing file, and its external data file. They are read from
 * fields at fixed offsets in the image's header. The guest's process may write its images, so the result may come
 * from the guest and must not give access to anything that the guest could not open anyway.
 * Source: QEMU, docs/interop/qcow2.rst, docs/interop/qed_spec.rst, block/qcow.c, block/vpc.c.
 */
import { readSync } from 'node:fs';
import type { DiskFormat } from '../../protocol/guest-config.js';

export interface Beneath {
  /** As in the image: relative to the image's folder, or an absolute path. */
  readonly name: string;
  readonly kind: 'backing' | 'data';
  /** "": the image does not say. */
  readonly format: string;
}

const QFI = 0x514649fb;
const QED = 0x51454400;
const CONECTIX = 'conectix';
const INCOMPATIBLE_DATA_FILE = 4;
const QED_BACKING = 1;
const EXTENSION_BACKING_FORMAT = 0xe2792aca;
const EXTENSION_DATA_FILE = 0x44415441;
const MOST_NAME = 4096;
const HEAD_BYTES = 65_536;

/** True if the header is of this format. A fixed vhd is marked only at its end. */
export function isFormat(format: DiskFormat, fd: number, bytes: number): boolean {
  const head = read(fd, 0, 8);
  switch (format) {
    case 'qcow':
    case 'qcow2':
      return (
        head.length === 8 &&
        head.readUInt32BE(0) === QFI &&
        (head.readUInt32BE(4) === 1) === (format === 'qcow')
      );
    case 'qed':
      return head.length >= 4 && head.readUInt32BE(0) === QED;
    case 'vhd':
      return (
        head.toString('latin1') === CONECTIX ||
        (bytes >= 512 && read(fd, bytes - 512, 8).toString('latin1') === CONECTIX) ||
        (bytes >= 511 && read(fd, bytes - 511, 8).toString('latin1') === CONECTIX)
      );
    default:
      return true;
  }
}

/** Files of this host that the image names, without those that need a network protocol. */
export const beneath = (format: DiskFormat, fd: number): Beneath[] =>
  namedBeneath(format, fd).filter(({ name }) => !isProtocol(name));

/** True if QEMU takes the name for a protocol; `file:` and `json:` lead to files of this host too. */
export const isProtocol = (name: string): boolean => /^[a-z][a-z0-9+-]*:/i.test(name);

/** Everything that the image names. */
export function namedBeneath(format: DiskFormat, fd: number): Beneath[] {
  const head = read(fd, 0, HEAD_BYTES);
  const all =
    format === 'qed' ? ofQed(head) : format === 'qcow' || format === 'qcow2' ? ofQcow(head, fd) : [];
  return all.filter(({ name }) => name !== '');
}

function ofQcow(head: Buffer, fd: number): Beneath[] {
  if (head.length < 48) return [];
  const version = head.readUInt32BE(4);
  const offset = Number(head.readBigUInt64BE(8));
  const length = head.readUInt32BE(16);
  let backingFormat = '';
  let data: string | undefined;
  if (version >= 2) {
    const incompatible = version >= 3 && head.length >= 104 ? head.readUInt32BE(76) : 0;
    let at = version >= 3 && head.length >= 104 ? head.readUInt32BE(100) : 72;
    while (at + 8 <= head.length) {
      const type = head.readUInt32BE(at);
      const size = head.readUInt32BE(at + 4);
      if (type === 0 || at + 8 + size > head.length) break;
      const says = head.toString('utf8', at + 8, at + 8 + size);
      if (type === EXTENSION_BACKING_FORMAT) backingFormat = says;
      if (type === EXTENSION_DATA_FILE && (incompatible & INCOMPATIBLE_DATA_FILE) !== 0) data = says;
      at += 8 + Math.ceil(size / 8) * 8;
    }
  }
  const all: Beneath[] = [];
  if (offset > 0 && length > 0 && length <= MOST_NAME)
    all.push({ name: read(fd, offset, length).toString('utf8'), kind: 'backing', format: backingFormat });
  if (data !== undefined) all.push({ name: data, kind: 'data', format: 'raw' });
  return all;
}

function ofQed(head: Buffer): Beneath[] {
  if (head.length < 64 || (head.readUInt32LE(16) & QED_BACKING) === 0) return [];
  const offset = head.readUInt32LE(56);
  const length = head.readUInt32LE(60);
  if (length > MOST_NAME || offset + length > head.length) return [];
  return [{ name: head.toString('utf8', offset, offset + length), kind: 'backing', format: '' }];
}

/** Returns fewer bytes at the end of the file. */
function read(fd: number, at: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  let done = 0;
  while (done < bytes) {
    const got = readSync(fd, buffer, done, bytes - done, at + done);
    if (got === 0) break;
    done += got;
  }
  return buffer.subarray(0, done);
}
