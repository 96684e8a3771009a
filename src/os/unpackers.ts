/** Unpackers of kernels that this Node has: zstd since 22.15. They leave no memory behind, as one in WebAssembly does. */
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import type { Unpackers } from '../guest/decompress.js';

type ZstdDecompress = (
  packed: Uint8Array,
  options: { chunkSize: number; maxOutputLength: number },
  done: (error: Error | null, unpacked: Buffer) => void,
) => void;

/** Smallest piece in which zlib hands out what it has unpacked. */
const LEAST_CHUNK = 64;

export function nodeUnpackers(from: object = zlib): Unpackers {
  const { zstdDecompress } = from as { zstdDecompress?: ZstdDecompress };
  if (zstdDecompress === undefined) return {};
  const decompress = promisify(zstdDecompress);
  return {
    // In one piece, and room for one byte more: it ends at the first that is too many.
    zstd: (packed, size) =>
      decompress(packed, { chunkSize: Math.max(LEAST_CHUNK, size + 1), maxOutputLength: size }),
  };
}
