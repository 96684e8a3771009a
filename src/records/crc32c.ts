/**
 * CRC-32C (Castagnoli), the checksum of every saved record. It is computed in WebAssembly at two to three GB/s, so
 * that RAM can be checked too.
 * Source: RFC 3720, appendix B.4.
 */
import { decodeBase64 } from './base64.js';
import { crc32cWasmBase64 } from './generated/crc32c-wasm.js';

interface Core {
  readonly memory: WebAssembly.Memory;
  readonly BUFFER: WebAssembly.Global;
  readonly BUFFER_BYTES: WebAssembly.Global;
  /** Continues the inverted checksum over `length` bytes at BUFFER. */
  update(crc: number, length: number): number;
}

const wasm = decodeBase64(crc32cWasmBase64);
// Types: WebAssembly's declarations do not know the exports of a module.
const core = new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports as unknown as Core;
const buffer = new Uint8Array(core.memory.buffer, core.BUFFER.value, core.BUFFER_BYTES.value);

/**
 * CRC-32C of `bytes` from `start` to `end` (exclusive), as an unsigned 32-bit number. `crc` is the checksum of what
 * precedes, 0 at the beginning.
 */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, crc = 0): number {
  let c = ~crc;
  for (let at = start; at < end; at += buffer.length) {
    const part = Math.min(buffer.length, end - at);
    buffer.set(bytes.subarray(at, at + part));
    c = core.update(c, part);
  }
  return ~c >>> 0;
}
