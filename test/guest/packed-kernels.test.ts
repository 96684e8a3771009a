import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bzImagePayload, unpackKernel } from '../../src/guest/bzimage.js';
import { type Unpackers, unpackPayload } from '../../src/guest/decompress.js';
import { KernelError } from '../../src/guest/kernel-error.js';
import { nodeUnpackers } from '../../src/os/unpackers.js';
import { bzImage, PACKED, packedKernel, ZSTD_BLOCK, zstdOfBlocks } from './packed-kernels.js';

const kernel = packedKernel();
const payload = (name: keyof typeof PACKED): Uint8Array => Buffer.from(PACKED[name], 'base64');
const unpacked = async (file: Uint8Array): Promise<string> =>
  Buffer.from(await unpackKernel(file)).toString('hex');
const expected = Buffer.from(kernel).toString('hex');

describe('a compressed kernel', () => {
  test.each(['xz', 'xzBlocks', 'lz4', 'zstd'] as const)('%s: is decompressed byte for byte', async (name) => {
    expect(await unpacked(bzImage(payload(name), kernel.length))).toBe(expected);
  });

  test('gzip: is decompressed byte for byte, in a bzImage and alone', async () => {
    expect(await unpacked(bzImage(gzipSync(kernel)))).toBe(expected);
    expect(await unpacked(gzipSync(kernel))).toBe(expected);
    expect(await unpacked(gzipSync(bzImage(payload('xz'), kernel.length)))).toBe(expected);
  });

  test('a bzImage whose kernel is not compressed, and an ELF file, pass unchanged', async () => {
    expect(await unpacked(bzImage(kernel))).toBe(expected);
    expect(await unpacked(kernel)).toBe(expected);
  });

  test('a file of several lz4 frames is one kernel', async () => {
    const frame = payload('lz4');
    const twice = Buffer.concat([frame, frame]);
    await expect(unpackKernel(bzImage(twice, 2 * kernel.length))).resolves.toHaveLength(2 * kernel.length);
  });

  test.each([
    ['lzma', [0x5d, 0, 0, 0, 4]],
    ['lzo', [0x89, 0x4c, 0x5a, 0x4f, 0]],
    ['bzip2', [0x42, 0x5a, 0x68, 0x39]],
  ])('%s is refused by name', async (name, magic) => {
    const file = bzImage(Uint8Array.from([...magic, ...new Array(20).fill(0)]), 100);
    await expect(unpackKernel(file)).rejects.toThrow(`packed with ${name}, which is not supported`);
  });

  test('a file that is no kernel is refused with its first bytes', async () => {
    await expect(unpackKernel(new TextEncoder().encode('#!/bin/sh'))).rejects.toThrow(
      'begins with 23 21 2f 62',
    );
    await expect(unpackKernel(new Uint8Array(0))).rejects.toThrow('begins with nothing');
    await expect(unpackKernel(bzImage(new Uint8Array(64), 1))).rejects.toThrow('begins with 00 00 00 00');
  });

  test('a boot protocol that carries no ELF kernel is refused', () => {
    expect(() => bzImagePayload(bzImage(kernel, undefined, 0x207))).toThrow(/protocol 2.07 at offset 0x206/);
  });

  test('a truncated bzImage is refused with the place where its payload should be', () => {
    const file = bzImage(kernel);
    expect(() => bzImagePayload(file.subarray(0, file.length - 1))).toThrow(
      /payload at offset 0x810, 0x[0-9a-f]+ bytes, runs past the end/,
    );
  });

  test('a declared size that differs from the decompressed size is an error', async () => {
    for (const name of ['xz', 'xzBlocks', 'lz4', 'zstd'] as const)
      await expect(unpackKernel(bzImage(payload(name), kernel.length - 1))).rejects.toThrow(KernelError);
  });

  test('an absurd size is refused before memory is allocated for it', async () => {
    await expect(unpackKernel(bzImage(payload('zstd'), 0xffffffff))).rejects.toThrow(/too many/);
  });
});

const unpackers: [string, Unpackers][] = [['of our own', {}]];
if (nodeUnpackers().zstd !== undefined) unpackers.push(['of Node', nodeUnpackers()]);

describe.each(unpackers)('zstd, by the unpacker %s', (_, by) => {
  const payloadOf = (packed: Uint8Array, size: number): Uint8Array => {
    const payload = new Uint8Array(packed.length + 4);
    payload.set(packed);
    new DataView(payload.buffer).setUint32(packed.length, size, true);
    return payload;
  };

  test('comes out byte for byte', async () => {
    const out = await unpackPayload(payloadOf(payload('zstd'), kernel.length), by);
    expect(Buffer.from(out).toString('hex')).toBe(expected);
  });

  // An unpacker that moves its window with each block would copy 60 GiB, which takes long on any machine.
  test('60 MiB that were compressed as a stream, with a window of 128 MiB, are decompressed quickly', async () => {
    const blocks = Array.from({ length: 480 }, (_, i) => i & 255);
    const out = await unpackPayload(payloadOf(zstdOfBlocks(blocks), blocks.length * ZSTD_BLOCK), by);
    expect(out.length).toBe(blocks.length * ZSTD_BLOCK);
    expect(
      blocks.every((byte, i) => out[i * ZSTD_BLOCK] === byte && out[(i + 1) * ZSTD_BLOCK - 1] === byte),
    ).toBe(true);
  });

  test.each([0, 1, ZSTD_BLOCK, 3 * ZSTD_BLOCK - 1, 3 * ZSTD_BLOCK + 1])(
    'data of another size than declared is refused: 384 KiB instead of %i bytes',
    async (size) => {
      const wrong = payloadOf(zstdOfBlocks([1, 2, 3]), size);
      await expect(unpackPayload(wrong, by)).rejects.toThrow(KernelError);
    },
  );

  test('after any change, the result is a kernel or a message', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { maxLength: 4 }), async (changes) => {
        const copy = payloadOf(payload('zstd'), kernel.length);
        for (const [at, value] of changes) copy[at % (copy.length - 4)] = value;
        await unpackPayload(copy, by).catch((e) => expect(e).toBeInstanceOf(KernelError));
      }),
      { numRuns: 100 },
    );
  });
});

test('a Node without zstd has no unpacker for it, and one with zstd returns at most the size that was asked for', async () => {
  expect(nodeUnpackers({})).toEqual({});
  let asked: unknown;
  const { zstd } = nodeUnpackers({
    zstdDecompress: (packed: Uint8Array, options: object, done: (e: null, b: Uint8Array) => void) => {
      asked = options;
      done(null, packed);
    },
  });
  await zstd?.(new Uint8Array(3), 1000);
  expect(asked).toMatchObject({ maxOutputLength: 1000 });
});

describe('damage', () => {
  const damaged = async (file: Uint8Array, at: number, bits: number): Promise<string | undefined> => {
    const copy = Uint8Array.from(file);
    copy[at % copy.length] ^= bits;
    try {
      return Buffer.from(await unpackKernel(copy)).toString('hex');
    } catch (e) {
      if (e instanceof KernelError) return undefined;
      throw e;
    }
  };

  test('one changed bit in a checksummed payload is noticed, or has no effect', async () => {
    for (const file of [
      bzImage(payload('xz'), kernel.length),
      bzImage(payload('xzBlocks'), kernel.length),
      bzImage(gzipSync(kernel)),
    ]) {
      const start = 4 * 512 + 16;
      await fc.assert(
        fc.asyncProperty(fc.nat(file.length - start - 1), fc.nat(7), async (at, bit) => {
          const result = await damaged(file, start + at, 1 << bit);
          expect(result === undefined || result === expected).toBe(true);
        }),
        { numRuns: 150 },
      );
    }
  });

  test('after any change or cut, the result is a kernel or a message', async () => {
    const files = (['xz', 'xzBlocks', 'lz4', 'zstd'] as const).map((n) => bzImage(payload(n), kernel.length));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { maxLength: 4 }),
        fc.nat(4000),
        async (file, changes, length) => {
          const copy = Uint8Array.from(file.subarray(0, Math.max(100, length)));
          for (const [at, value] of changes) copy[at % copy.length] = value;
          await unpackKernel(copy).catch((e) => expect(e).toBeInstanceOf(KernelError));
        },
      ),
      { numRuns: 300 },
    );
  });
});
