/** The instructions that the machine executes: those that its decoder does not decode as invalid. */
import { FP_DESCRIPTORS, FP_NEXT, BLOCK_HEADER as HEADER } from '../../src/engine/wasm/core/layout.js';
import { Form, G, Op } from '../../src/engine/wasm/core/ops.js';
import { BlockDecoder } from '../../src/engine/wasm/decode/decode.js';
import { encodings } from './encodings.js';

const AT = 0x38_0000;
const TO = 0x3a_0000;
const BYTES = 0x40_0000;
const NOP = 0x90;
const UD = 6;
const RAISE = Op.GENERIC | (G.RAISE << 5) | (Form.RI << 2);

/** Names as in encodings.ts. */
export function executedForms(): string[] {
  const memory = new ArrayBuffer(BYTES);
  const u8 = new Uint8Array(memory);
  const view = new DataView(memory);
  view.setUint32(FP_NEXT, FP_DESCRIPTORS, true);
  const decoder = new BlockDecoder(memory);
  return encodings()
    .filter(({ bytes }) => {
      u8.fill(NOP, AT, AT + 32);
      u8.set(bytes, AT);
      decoder.decode(AT, TO, () => 0);
      return !(
        (view.getUint16(TO + HEADER, true) & ~3) === RAISE && view.getInt32(TO + HEADER + 12, true) === UD
      );
    })
    .map((e) => e.name);
}
