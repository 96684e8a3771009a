/**
 * Decompresses xz. The decoder (xz-decompress) supports only LZMA2, but kernels are compressed with the x86 branch
 * filter in front of it. In that case each block is put into a stream of its own that names only LZMA2; the filter is
 * then undone and the block's checksum verified here.
 * Source: the .xz file format 1.1 (tukaani.org), sections 2 to 5.
 */
import xzDecompress from 'xz-decompress';
import { crc32 } from './crc32.js';
import { hex, KernelError } from './kernel-error.js';
import { undoX86BranchFilter } from './x86-branch-filter.js';

const STREAM_HEADER = 12;
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
/** The size of a check in bytes, by its type. */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

interface Block {
  readonly start: number;
  readonly headerBytes: number;
  readonly dataBytes: number;
  readonly unpackedBytes: number;
  readonly filters: readonly { id: number; properties: Uint8Array }[];
}

const bad = (what: string, at: number): KernelError =>
  new KernelError(`xz payload: ${what} at offset ${hex(at)} of it`);

/** Reads the format's numbers, which have 7 bits in each byte, lowest first. Values up to 2^53 are supported. */
class Reader {
  constructor(
    readonly bytes: Uint8Array,
    public at: number,
    readonly end: number,
  ) {}
  byte(): number {
    if (this.at >= this.end) throw bad('a field runs out of its part', this.at);
    return this.bytes[this.at++];
  }
  number(): number {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const b = this.byte();
      value += (b & 0x7f) * shift;
      if (value > Number.MAX_SAFE_INTEGER) throw bad('a size is too large', this.at - 1);
      if (b < 0x80) return value;
    }
  }
}

const le32 = (b: Uint8Array, at: number): number => new DataView(b.buffer, b.byteOffset).getUint32(at, true);

/** The blocks of the single stream in `bytes`, according to its index. */
function readBlocks(bytes: Uint8Array): { blocks: Block[]; check: number } {
  const footer = bytes.length - 12;
  if (footer < STREAM_HEADER || bytes.length % 4 !== 0) throw bad('too short or of odd length, no stream', 0);
  if (bytes[footer + 10] !== 0x59 || bytes[footer + 11] !== 0x5a) throw bad('no "YZ"', footer + 10);
  const check = bytes[7] & 15;
  const indexBytes = (le32(bytes, footer + 4) + 1) * 4;
  if (indexBytes > footer - STREAM_HEADER) throw bad('index size is too large', footer + 4);
  const index = new Reader(bytes, footer - indexBytes, footer - 4);
  if (index.byte() !== 0) throw bad('no index', footer - indexBytes);
  const count = index.number();
  if (count > indexBytes) throw bad('too many blocks in the index', footer - indexBytes);
  const blocks: Block[] = [];
  let start = STREAM_HEADER;
  for (let i = 0; i < count; i++) {
    const unpadded = index.number();
    const unpackedBytes = index.number();
    const end = start + Math.ceil(unpadded / 4) * 4;
    if (end > footer - indexBytes) throw bad(`block ${i} runs into the index`, start);
    const headerBytes = (bytes[start] + 1) * 4;
    const dataBytes = unpadded - headerBytes - CHECK_BYTES[check];
    if (bytes[start] === 0 || dataBytes <= 0) throw bad(`header of block ${i} is wrong`, start);
    if (crc32(bytes.subarray(start, start + headerBytes - 4)) !== le32(bytes, start + headerBytes - 4))
      throw bad(`header of block ${i} has a wrong checksum`, start);
    blocks.push({
      start,
      headerBytes,
      dataBytes,
      unpackedBytes,
      filters: readFilters(bytes, start, headerBytes),
    });
    start = end;
  }
  return { blocks, check };
}

function readFilters(bytes: Uint8Array, start: number, headerBytes: number): Block['filters'] {
  const r = new Reader(bytes, start + 1, start + headerBytes - 4);
  const flags = r.byte();
  if (flags & 0x40) r.number();
  if (flags & 0x80) r.number();
  return Array.from({ length: (flags & 3) + 1 }, () => {
    const id = r.number();
    const size = r.number();
    const properties = Uint8Array.from({ length: Math.min(size, 1024) }, () => r.byte());
    return { id, properties };
  });
}

/** Encodes a number with 7 bits in each byte, lowest first. */
function encodeNumber(value: number): number[] {
  const out: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return [...out, value];
}

function withCrc(bytes: number[]): number[] {
  const c = crc32(Uint8Array.from(bytes));
  return [...bytes, c & 255, (c >>> 8) & 255, (c >>> 16) & 255, c >>> 24];
}

const padded = (bytes: number[]): number[] => [...bytes, ...new Array<number>(-bytes.length & 3).fill(0)];

/** Makes a stream of one block that is compressed with LZMA2 only and has no check. */
function plainStream(data: Uint8Array, lzma2: Uint8Array, unpackedBytes: number): Uint8Array {
  const flags = [0, CHECK_NONE];
  const fields = padded([0, 0, FILTER_LZMA2, lzma2.length, ...lzma2]);
  fields[0] = fields.length / 4; // the stored size includes the checksum and is one less than the number of words
  const header = withCrc(fields);
  const unpadded = header.length + data.length;
  const index = withCrc(padded([0, 1, ...encodeNumber(unpadded), ...encodeNumber(unpackedBytes)]));
  const back = index.length / 4 - 1;
  const footer = [back & 255, (back >>> 8) & 255, (back >>> 16) & 255, back >>> 24, ...flags];
  const parts = [
    [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, ...flags, ...withCrc(flags).slice(2)],
    header,
    data,
    new Array<number>(-data.length & 3).fill(0),
    index,
    withCrc(footer).slice(-4),
    footer,
    [0x59, 0x5a],
  ];
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/**
 * The decoder keeps its memory, which is larger than the dictionary, as long as it is referenced. The next use makes
 * a new one.
 */
function forgetDecoder(): void {
  const kept = xzDecompress.XzReadableStream as {
    _moduleInstance?: unknown;
    _moduleInstancePromise?: unknown;
  };
  kept._moduleInstance = undefined;
  kept._moduleInstancePromise = undefined;
}

/** Fills `out` with the decoder's output. Throws KernelError unless it fits exactly. */
async function decodeInto(out: Uint8Array, packed: Uint8Array): Promise<void> {
  const source = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(packed);
      controller.close();
    },
  });
  const reader = new xzDecompress.XzReadableStream(source).getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (at + value.length > out.length) throw new Error(`more than ${out.length} bytes come out`);
      out.set(value, at);
      at += value.length;
    }
  } catch (e) {
    await reader.cancel().catch(() => {});
    throw new KernelError(`xz payload is damaged: ${(e as Error).message}`);
  } finally {
    forgetDecoder();
  }
  if (at !== out.length)
    throw new KernelError(`xz payload is damaged: ${at} bytes unpacked, ${out.length} expected`);
}

/**
 * Decompresses one xz stream of at most `limit` decompressed bytes. Throws KernelError if the stream is not complete
 * and undamaged.
 */
export async function unxz(bytes: Uint8Array, limit: number): Promise<Uint8Array> {
  const { blocks, check } = readBlocks(bytes);
  const total = blocks.reduce((sum, b) => sum + b.unpackedBytes, 0);
  if (total > limit) throw new KernelError(`xz payload: ${total} bytes unpacked, at most ${limit} allowed`);
  const out = new Uint8Array(total);
  const filterOf = (block: Block): number => {
    const ids = block.filters.map((f) => f.id);
    if (ids.length > 2 || ids.at(-1) !== FILTER_LZMA2 || (ids.length === 2 && ids[0] !== FILTER_X86))
      throw new KernelError(
        `xz payload: filters ${ids.map(hex).join(', ')}; only x86 branches and LZMA2 are known`,
      );
    return ids[0];
  };
  // Without the branch filter the decoder does everything and verifies every kind of checksum.
  if (!blocks.some((block) => filterOf(block) === FILTER_X86)) {
    await decodeInto(out, bytes);
    return out;
  }
  let at = 0;
  for (const block of blocks) {
    const dataStart = block.start + block.headerBytes;
    const data = bytes.subarray(dataStart, dataStart + block.dataBytes);
    const target = out.subarray(at, at + block.unpackedBytes);
    await decodeInto(target, plainStream(data, block.filters.at(-1)!.properties, block.unpackedBytes));
    if (filterOf(block) === FILTER_X86) undoX86BranchFilter(target);
    const sum = dataStart + block.dataBytes + (-block.dataBytes & 3);
    if (check === CHECK_CRC32 && crc32(target) !== le32(bytes, sum))
      throw new KernelError('xz payload is damaged: wrong checksum of the unpacked bytes');
    at += block.unpackedBytes;
  }
  return out;
}
