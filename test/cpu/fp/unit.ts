/**
 * The floating-point unit alone: core/fp is compiled without the rest of the engine, and runs as in the engine, one
 * instruction at a time on a window of memory that stands for the guest's.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../../scripts/lib/root.js';
import { FpOp } from '../../../src/engine/wasm/core/fp/ops.js';
import { decodeFp, type FpOperation } from '../../../src/engine/wasm/decode/fp.js';
import * as iced from '../../../src/x86/iced.js';

interface Core {
  fpExec(cpu: number, op: number, dst: number, src: number, imm: number): number;
  fpCommit(cpu: number, op: number): void;
  fxsave(cpu: number, at: number): void;
  fxrstor(cpu: number, at: number): number;
}

const CPU = 0x1_0000;
const SCRATCH = CPU + 0x400;
const IMAGE = 0x2_0000;
const FLAGS = CPU + 0x3b8;
const NOW_IP = CPU + 0x3a8;
const NOW_DP = CPU + 0x3b0;

export interface Unit {
  readonly memory: Uint8Array;
  readonly view: DataView;
  /**
   * Runs `op` with the bytes of `window` at `offset` as its memory operand (address `va`). Returns the vector, or 0.
   */
  step(op: FpOperation, window: Uint8Array, offset: number, va: bigint, rip: bigint): number;
  load(image: Uint8Array): number;
  save(): Uint8Array;
}

/** Address of a general register in the unit's memory, by number. */
export const gprAt = (i: number): number => CPU + 8 * i;
export const flagsAt = FLAGS;

const COMPILER = 'node_modules/assemblyscript/bin/asc.js';
const OPTIONS =
  '--importMemory --sharedMemory --initialMemory 16 --maximumMemory 16 --enable simd --enable threads ' +
  '--enable bulk-memory --runtime stub -O2 --noAssert';

/** Runs the compiler as a program: importing it would declare globals, `console` among them, that are not Node's. */
function compileUnit(): Uint8Array<ArrayBuffer> {
  const folder = mkdtempSync(join(tmpdir(), 'stillpoint-unit-'));
  const out = join(folder, 'fp.wasm');
  const args = [COMPILER, 'src/engine/wasm/core/fp/index.ts', '--outFile', out, ...OPTIONS.split(' ')];
  try {
    execFileSync(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
    return Uint8Array.from(readFileSync(out));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export function openUnit(): Unit {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const module = new WebAssembly.Module(compileUnit());
  const instance = new WebAssembly.Instance(module, { env: { memory, abort: () => {} } });
  const core = instance.exports as unknown as Core;
  const bytes = new Uint8Array(memory.buffer);
  const view = new DataView(memory.buffer);
  return {
    memory: bytes,
    view,
    load(image) {
      bytes.set(image, IMAGE);
      return core.fxrstor(CPU, IMAGE);
    },
    save() {
      core.fxsave(CPU, IMAGE);
      return bytes.slice(IMAGE, IMAGE + 512);
    },
    step(op, window, offset, va, rip) {
      const { form } = op;
      const touches = form.loadSize > 0 || form.storeSize > 0;
      if (form.align16 && (va & 15n) !== 0n) return 13;
      // Whatever remains in the scratch area must have no effect.
      bytes.fill(0xa5, SCRATCH, SCRATCH + 512);
      if (form.loadSize > 0) bytes.set(window.subarray(offset, offset + form.loadSize), SCRATCH);
      view.setBigUint64(NOW_IP, rip, true);
      view.setBigUint64(NOW_DP, touches ? va : 0n, true);
      const result = core.fpExec(CPU, op.op, op.dst, CPU + op.src, op.imm);
      if (result > 0) return result;
      if (result === 0 && form.storeSize > 0) {
        window.set(bytes.subarray(SCRATCH, SCRATCH + form.storeSize), offset);
        core.fpCommit(CPU, op.op);
      }
      return 0;
    },
  };
}

/** Decodes the instruction at the start of `code` into an operation. */
export function operationOf(code: Uint8Array): FpOperation | undefined {
  const decoder = new iced.Decoder(64, code, iced.DecoderOptions.None);
  const instruction = decoder.decode();
  try {
    return decodeFp(instruction);
  } finally {
    instruction.free();
    decoder.free();
  }
}

export const isX87 = (op: FpOperation): boolean => op.op < FpOp.FWAIT;
