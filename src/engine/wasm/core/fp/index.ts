// The floating-point unit of the core: x87, MMX, SSE, SSE2. The engine fetches memory operands into the scratch area
// and stores results from it; these functions only get linear pointers.
//
//   fpExec(cpu, op, dst, src, imm): the arguments are as engine/wasm/decode/fp.ts made them. Returns 0; or the
//     vector of an exception (6, 13, 16, 19), with the state unchanged except for MXCSR's flags, as on hardware; or
//     NO_STORE (-1): complete, but nothing may be stored (an unmasked x87 exception).
//   fpCommit(cpu, op): to be called after the store of a storing form has succeeded. x87 and MMX need it, others allow it.
import { enterMmx } from './mmx-state';
import { FpOp } from './ops';
import { moveMm, moveXmm, simdMm, simdXmm } from './simd';
import { sseFloat } from './sse-float';
import { FSW, MXCSR, MXCSR_MASK, SCRATCH, VECTOR_GP, VECTOR_MF } from './state';
import { commit, x87 } from './x87';
import { fxrstorFrom, fxsaveTo, initialise } from './x87-control';

function special(cpu: usize, op: i32, dst: i32, src: usize): i32 {
  switch (op) {
    case FpOp.FWAIT:
      return load<u16>(cpu + FSW) & 0x80 ? VECTOR_MF : 0;
    case FpOp.FXSAVE:
    case FpOp.FXSAVE64:
      fxsaveTo(cpu, cpu + SCRATCH, op == FpOp.FXSAVE64);
      return 0;
    case FpOp.FXRSTOR:
    case FpOp.FXRSTOR64:
      return fxrstorFrom(cpu, src, op == FpOp.FXRSTOR64);
    case FpOp.LDMXCSR: {
      const value = load<u32>(src);
      if (value & ~MXCSR_MASK) return VECTOR_GP;
      store<u32>(cpu + MXCSR, value);
      return 0;
    }
    case FpOp.STMXCSR:
      store<u32>(cpu + SCRATCH, load<u32>(cpu + MXCSR));
      return 0;
    case FpOp.EMMS:
      return moveMm(cpu, op, dst, src);
    default:
      return op >= FpOp.MMXLD8 && op <= FpOp.MOVDQ2Q ? moveMm(cpu, op, dst, src) : moveXmm(cpu, op, dst, src);
  }
}

export function fpExec(cpu: usize, op: i32, dst: i32, src: usize, imm: i32): i32 {
  if (op >= FpOp.ADDPS) return sseFloat(cpu, op, dst, src, imm);
  if (op >= FpOp.PUNPCKLBW + FpOp.MMX) return simdMm(cpu, op - FpOp.MMX, dst, src, imm);
  if (op >= FpOp.PUNPCKLBW) return simdXmm(cpu, op, dst, src, imm);
  if (op >= FpOp.FWAIT) return special(cpu, op, dst, src);
  return x87(cpu, op, src, imm);
}

export function fpCommit(cpu: usize, op: i32): void {
  if (op < FpOp.FWAIT) commit(cpu);
  else if (op == FpOp.MMXST8 || op == FpOp.MMXST4) enterMmx(cpu);
}

/** Writes the bytes of `fxsave64` to p. */
export function fxsave(cpu: usize, p: usize): void {
  fxsaveTo(cpu, p, true);
}

/** Loads what fxsave wrote. Returns 13 if MXCSR has reserved bits. */
export function fxrstor(cpu: usize, p: usize): i32 {
  return fxrstorFrom(cpu, p, true);
}

/** Sets the unit to its power-on state: as after FNINIT, with MXCSR 0x1f80. */
export function fninit(cpu: usize): void {
  initialise(cpu);
  store<u32>(cpu + MXCSR, 0x1f80);
}
