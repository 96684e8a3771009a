/**
 * Extracts the ELF kernel from a bzImage. A PV guest starts at the kernel itself, not at the real-mode code before
 * it.
 * Source: Linux, Documentation/arch/x86/boot.rst (protocol 2.08 and later); Xen, xg_dom_bzimageloader.c.
 */
import { gunzip, isGzip, type Unpackers, unpackPayload } from './decompress.js';
import { isElf } from './elf.js';
import { hex, KernelError } from './kernel-error.js';

const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202; // "HdrS"
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x250;
const SECTOR = 512;

/** The compressed kernel in a bzImage, or undefined if the file is not a bzImage. */
export function bzImagePayload(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < HEADER_END) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(HEADER_MAGIC, true) !== 0x53726448) return undefined;
  const version = view.getUint16(VERSION, true);
  if (version < 0x208)
    throw new KernelError(
      `bzImage of boot protocol ${version >> 8}.${String(version & 255).padStart(2, '0')} at offset 0x206: 2.08 is the oldest that carries an ELF kernel`,
    );
  const offset = ((bytes[SETUP_SECTS] || 4) + 1) * SECTOR + view.getUint32(PAYLOAD_OFFSET, true);
  const length = view.getUint32(PAYLOAD_LENGTH, true);
  if (offset + length > bytes.length)
    throw new KernelError(
      `bzImage payload at offset ${hex(offset)}, ${hex(length)} bytes, runs past the end of the file (${hex(bytes.length)} bytes)`,
    );
  return bytes.subarray(offset, offset + length);
}

/** The ELF kernel of a file that is an ELF file or a bzImage, either of which may be compressed with gzip. */
export async function unpackKernel(file: Uint8Array, unpackers: Unpackers = {}): Promise<Uint8Array> {
  const bytes = isGzip(file) ? await gunzip(file) : file;
  if (isElf(bytes)) return bytes;
  const payload = bzImagePayload(bytes);
  if (payload === undefined) {
    const found = [...bytes.subarray(0, 4)].map((b) => b.toString(16).padStart(2, '0')).join(' ');
    throw new KernelError(`neither an ELF file nor a bzImage: begins with ${found || 'nothing'}`);
  }
  const kernel = isElf(payload) ? payload : await unpackPayload(payload, unpackers);
  if (!isElf(kernel)) throw new KernelError('the payload of the bzImage is not an ELF file');
  return kernel;
}
