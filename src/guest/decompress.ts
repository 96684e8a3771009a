/**
 * Decompresses the formats that kernels and ramdisks use: gzip, xz, lz4 (the legacy framing that kernels use) and
 * zstd. Whatever the input is, the result is exactly the decompressed data or a KernelError, and never more than
 * MAX_UNPACKED.
 * Source: Xen, tools/libs/guest/xg_dom_bzimageloader.c; RFC 1952 (gzip); lz4_Frame_format.md, "Legacy frame".
 */
import lz4 from 'lz4js';
import { ZSTDDecoder } from 'zstddec';
import { KernelError } from './kernel-error.js';
import { unxz } from './xz.js';

/** In bytes; the same as Xen's XC_DOM_DECOMPRESS_MAX. */
const MAX_UNPACKED = 1 << 30;

/** Decompressors of the JavaScript runtime, which are used instead of those here. */
export interface Unpackers {
  /**
   * Decompresses one or more whole zstd frames to `size` bytes. It never returns more than that and needs little more
   * memory. It may throw anything if the data is damaged or larger.
   */
  zstd?(packed: Uint8Array, size: number): Promise<Uint8Array>;
}

const le32 = (b: Uint8Array, at: number): number => new DataView(b.buffer, b.byteOffset).getUint32(at, true);
const startsWith = (bytes: Uint8Array, magic: readonly number[]): boolean =>
  bytes.length >= magic.length && magic.every((b, i) => bytes[i] === b);

export const isGzip = (bytes: Uint8Array): boolean => startsWith(bytes, [0x1f, 0x8b]);

/** Decompresses one gzip member, whose size is in its last four bytes. */
export async function gunzip(bytes: Uint8Array): Promise<Uint8Array> {
  if (bytes.length < 18) throw new KernelError('gzip payload: too short');
  const size = le32(bytes, bytes.length - 4);
  if (size > MAX_UNPACKED) throw new KernelError(`gzip payload: ${size} bytes unpacked are too many`);
  const out = new Uint8Array(size);
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream();
  const reader = stream.pipeThrough(new DecompressionStream('gzip')).getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (at + value.length > size) throw new Error(`more than the ${size} bytes that its end names`);
      out.set(value, at);
      at += value.length;
    }
  } catch (e) {
    await reader.cancel().catch(() => {});
    throw new KernelError(`gzip payload is damaged: ${(e as Error).message}`);
  }
  if (at !== size) throw new KernelError(`gzip payload is damaged: ${at} bytes unpacked, ${size} expected`);
  return out;
}

const LZ4_LEGACY = [0x02, 0x21, 0x4c, 0x18];
const LZ4_BLOCK = 8 << 20;

/** The data consists of blocks of 8 MiB (the last one may be smaller), each preceded by its compressed size. */
function unlz4(bytes: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let from = 0;
  let to = 0;
  while (from < bytes.length) {
    if (bytes.length - from < 4) throw new KernelError(`lz4 payload: cut short at offset ${from} of it`);
    const length = le32(bytes, from);
    from += 4;
    if (length === le32(Uint8Array.from(LZ4_LEGACY), 0)) continue; // a new frame begins here
    if (length > bytes.length - from)
      throw new KernelError(`lz4 payload: block at ${from} of it is cut short`);
    const block = lz4.decompressBlock(bytes, out, from, length, to);
    if (!(block > to && block <= size && block - to <= LZ4_BLOCK))
      throw new KernelError(`lz4 payload is damaged: block at offset ${from} of it`);
    to = block;
    from += length;
  }
  if (to !== size) throw new KernelError(`lz4 payload is damaged: ${to} bytes unpacked, ${size} expected`);
  return out;
}

/**
 * Decompresses directly into a buffer of the expected size. Kernels are compressed as a stream with windows of 128
 * MiB; a decompressor that keeps its own window and moves it after each block takes half a minute for them.
 */
async function decodeZstd(bytes: Uint8Array, size: number): Promise<Uint8Array> {
  const decoder = new ZSTDDecoder();
  await decoder.init();
  return decoder.decode(bytes, size);
}

async function unzstd(bytes: Uint8Array, size: number, unpackers: Unpackers): Promise<Uint8Array> {
  if (size === 0) throw new KernelError('zstd payload: it is empty');
  let out: Uint8Array;
  try {
    out = await (unpackers.zstd ?? decodeZstd)(bytes, size);
  } catch (e) {
    throw new KernelError(`zstd payload is damaged: ${(e as Error).message}`);
  }
  if (out.length !== size)
    throw new KernelError(`zstd payload is damaged: ${out.length} bytes unpacked, ${size} expected`);
  return out;
}

/** Formats that Xen's own builder supports and this one does not. */
const REFUSED: readonly [name: string, magic: readonly number[]][] = [
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzma', [0x5d, 0x00]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f]],
];

/**
 * Decompresses the payload of a bzImage. Except with gzip, the kernel's build appends the decompressed size in four
 * bytes.
 */
export async function unpackPayload(payload: Uint8Array, unpackers: Unpackers = {}): Promise<Uint8Array> {
  if (isGzip(payload)) return gunzip(payload);
  const refused = REFUSED.find(([, magic]) => startsWith(payload, magic));
  if (refused)
    throw new KernelError(
      `bzImage payload is packed with ${refused[0]}, which is not supported (gzip, xz, lz4, zstd are)`,
    );
  const xz = startsWith(payload, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
  const zstd = startsWith(payload, [0x28, 0xb5, 0x2f, 0xfd]);
  const isLz4 = startsWith(payload, LZ4_LEGACY);
  if (payload.length < 12 || !(xz || zstd || isLz4)) {
    const found = [...payload.subarray(0, 4)].map((b) => b.toString(16).padStart(2, '0')).join(' ');
    throw new KernelError(`bzImage payload begins with ${found || 'nothing'}: no known packing`);
  }
  const data = payload.subarray(0, payload.length - 4);
  const size = le32(payload, payload.length - 4);
  if (size > MAX_UNPACKED) throw new KernelError(`bzImage payload: ${size} bytes unpacked are too many`);
  const out = xz
    ? await unxz(data, MAX_UNPACKED)
    : zstd
      ? await unzstd(data, size, unpackers)
      : unlz4(data, size);
  if (out.length !== size)
    throw new KernelError(`bzImage payload is damaged: ${out.length} bytes unpacked, ${size} expected`);
  return out;
}
