/**
 * Instructions that the decoder decodes by the known properties of their form are decoded as by iced-x86, whatever
 * surrounds them.
 */
import { expect, it } from 'vitest';
import { ARENA, FP_DESCRIPTORS, FP_NEXT } from '../../src/engine/wasm/core/layout.js';
import { BlockDecoder } from '../../src/engine/wasm/decode/decode.js';
import { KnownForms } from '../../src/engine/wasm/decode/known.js';

const CODE = ARENA + 0x10000;
const ROUNDS = 1;
/** What precedes an opcode: nothing, prefixes that the known forms depend on, and prefixes that they ignore. */
const PREFIXES = [[], [], [], [0x66], [0x65], [0x64, 0x66], [0x66, 0x65], [0xf0], [0xf3], [0x2e], [0x67]];
const REXES = [-1, -1, 0x40, 0x41, 0x42, 0x44, 0x48, 0x49, 0x4a, 0x4c, 0x4f];

/** A decoder with its own memory. */
function decoder(knows: boolean): { bytes: Uint8Array; decode(length: number): Uint8Array } {
  const memory = new ArrayBuffer(CODE + 0x1000);
  const bytes = new Uint8Array(memory);
  new DataView(memory).setUint32(FP_NEXT, FP_DESCRIPTORS, true);
  const blocks = new BlockDecoder(memory, knows);
  return {
    bytes,
    decode: (at) => {
      const operations = blocks.decode(at, ARENA, () => 0);
      return bytes.slice(ARENA, ARENA + 48 + 16 * operations);
    },
  };
}

it('gives the same operations as iced-x86', () => {
  let seed = 0x1234567;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  let known = 0;
  const { decode } = KnownForms.prototype;
  KnownForms.prototype.decode = function (this: KnownForms, ...place) {
    const length = decode.apply(this, place);
    if (length > 0) known++;
    return length;
  };
  const one = decoder(true);
  const other = decoder(false);
  const wrong: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (let opcode = 0; opcode < 512; opcode++) {
      for (let modrm = 0; modrm < 256; modrm++) {
        const rex = REXES[random(REXES.length)];
        const bytes = [
          ...PREFIXES[random(PREFIXES.length)],
          ...(rex < 0 ? [] : [rex]),
          ...(opcode < 256 ? [opcode] : [0x0f, opcode - 256]),
          modrm,
        ];
        while (bytes.length < 32) bytes.push(random(8) === 0 ? 0 : random(256));
        // At the end of a page only one in so many is tried, because instructions may be cut there.
        const at = CODE + (random(16) === 0 ? 0x1000 - bytes.length + random(20) : 0);
        const fits = bytes.slice(0, CODE + 0x1000 - at);
        one.bytes.set(fits, at);
        other.bytes.set(fits, at);
        if (Buffer.compare(one.decode(at), other.decode(at)) !== 0 && wrong.length < 20)
          wrong.push(Buffer.from(fits).toString('hex'));
      }
    }
  }
  KnownForms.prototype.decode = decode;
  expect(wrong).toEqual([]);
  // The total is some hundred thousand instructions.
  expect(known).toBeGreaterThan(200_000);
});
