/**
 * Prints WebAssembly function bodies as text, for people and for snapshots, with the instructions that the translator
 * uses.
 */
import { V, VECTOR_PREFIX, W } from '../../../src/engine/wasm/translate/opcodes.js';

const names = (of: Record<string, number>): Map<number, string> =>
  new Map(Object.entries(of).map(([name, code]) => [code, name.replace('_', '.')]));
const NAMES = names(W);
const VECTOR_NAMES = names(V);
const TYPES: Record<number, string> = { 127: 'i32', 126: 'i64', 123: 'v128', 64: '' };
const IMPORTS = ['readAt', 'writeAt', 'step', 'conditionOf', 'fpExec', 'readFlags'];
const MEMORY_FIRST = W.i32_load;
const MEMORY_LAST = W.i64_store32;

/** Prints a body as FunctionWriter makes it: locals, then code. */
export function bodyText(body: Uint8Array, localNames: readonly string[]): string {
  let at = 0;
  const unsigned = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = body[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  const signed = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = BigInt(body[at++]);
      value |= (byte & 0x7fn) << shift;
      if (byte < 0x80n) return BigInt.asIntN(Number(shift) + 7, value);
    }
  };
  const lines: string[] = [];
  for (let groups = unsigned(); groups > 0; groups--) lines.push(`locals ${unsigned()} ${TYPES[body[at++]]}`);
  let depth = 0;
  while (at < body.length) {
    const code = body[at++];
    const name = NAMES.get(code) ?? `0x${code.toString(16)}`;
    let text = name;
    if (code === W.end || code === W.else) depth--;
    const margin = '  '.repeat(Math.max(0, depth));
    switch (code) {
      case W.block:
      case W.loop:
      case W.if:
        text += ` ${TYPES[body[at++]]}`.trimEnd();
        depth++;
        break;
      case W.else:
        depth++;
        break;
      case W.br:
      case W.br_if:
        text += ` ${unsigned()}`;
        break;
      case W.call:
        text += ` ${IMPORTS[unsigned()]}`;
        break;
      case W.local_get:
      case W.local_set:
      case W.local_tee:
        text += ` ${localNames[unsigned()]}`;
        break;
      case W.i32_const:
      case W.i64_const:
        text += ` ${signed()}`;
        break;
      case VECTOR_PREFIX: {
        const vector = unsigned();
        text = VECTOR_NAMES.get(vector) ?? `simd.${vector}`;
        if (vector === V.i8x16_shuffle || vector === V.v128_const) {
          text += ` ${[...body.subarray(at, at + 16)].join(' ')}`;
          at += 16;
        } else if (vector <= V.v128_store || vector === V.v128_load64_zero) {
          at++;
          text += ` +0x${unsigned().toString(16)}`;
        }
        break;
      }
      default:
        if (code >= MEMORY_FIRST && code <= MEMORY_LAST) {
          at++;
          text += ` +0x${unsigned().toString(16)}`;
        }
    }
    lines.push(`${margin}${text}`);
  }
  return `${lines.join('\n')}\n`;
}
