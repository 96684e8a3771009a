/** Fetches and decodes guest instructions for the code that executes them instead of the processor. */

import { type CpuEngine, Intent, PAGE } from '../../engine/engine.js';
import { Decoder, DecoderError, type Instruction } from '../../x86/iced.js';

const MAX_INSTRUCTION = 15;

/**
 * Returns the instruction at `rip` as the vCPU would fetch it now, or null if it cannot be fetched; the vCPU's fault
 * fields then say why. The caller frees the instruction.
 */
export function decodeAt(engine: CpuEngine, vcpu: number, rip: number): Instruction | null {
  const cpu = engine.vcpus[vcpu];
  const at = engine.translate(vcpu, cpu.linear(rip), Intent.execute);
  if (at === -1) return null;
  const room = Math.min(PAGE - (at & (PAGE - 1)), MAX_INSTRUCTION);
  const bytes = new Uint8Array(MAX_INSTRUCTION);
  bytes.set(engine.ram.mem.bytes(at, room));
  let length = room;
  if (room < MAX_INSTRUCTION) {
    const next = engine.translate(vcpu, cpu.linear(rip + room), Intent.execute);
    if (next !== -1) {
      bytes.set(engine.ram.mem.bytes(next, MAX_INSTRUCTION - room), room);
      length = MAX_INSTRUCTION;
    }
  }
  const decoder = new Decoder(cpu.codeBits, bytes.subarray(0, length), 0);
  decoder.ip = BigInt.asUintN(64, BigInt(rip));
  const instruction = decoder.decode();
  const cut = decoder.lastError === DecoderError.NoMoreBytes && length < MAX_INSTRUCTION;
  decoder.free();
  if (!cut) return instruction;
  instruction.free();
  return null;
}
