/**
 * Decompressors for kernels that this version of Node has: zstd since 22.15. Unlike a decompressor in WebAssembly,
 * they free their memory.
 */
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import type { Unpackers } from '../guest/decompress.js';

type ZstdDecompress = (
  packed: Uint8Array,
  options: { chunkSize: number; maxOutputLength: number },
  done: (error: Error | null, unpacked: Buffer) => void,
) => void;

/** The smallest chunk size that zlib accepts. */
const LEAST_CHUNK = 64;

export function nodeUnpackers(from: object = zlib): Unpackers {
  const { zstdDecompress } = from as { zstdDecompress?: ZstdDecompress };
  if (zstdDecompress === undefined) return {};
  const decompress = promisify(zstdDecompress);
  return {
    // The output is one chunk with room for one byte more than expected, so that decompression stops at the first
    // excess byte.
    zstd: (packed, size) =>
      decompress(packed, { chunkSize: Math.max(LEAST_CHUNK, size + 1), maxOutputLength: size }),
  };
}
