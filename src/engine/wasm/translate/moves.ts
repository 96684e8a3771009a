/** Moves, stack instructions, and addresses. */
import { Form, G } from '../core/ops.js';
import { type Context, constant, RBP, RSP } from './context.js';
import { HOST, W1 } from './locals.js';
import { loadHost, readHost, storeHost, writeHost } from './memory.js';
import { W } from './opcodes.js';
import { isOnStack, type Operation, storesToMemory } from './operation.js';

export function move(c: Context, op: Operation): void {
  const { e } = c;
  const { log, form } = op;
  if (storesToMemory(op)) {
    c.address(op);
    writeHost(c, 1 << log, isOnStack(op));
    if (form === Form.MR) c.getRegister(op.r2, log);
    else constant(e, log, op.imm);
    storeHost(c, log);
    return;
  }
  if (form === Form.RM) {
    c.address(op);
    readHost(c, 1 << log, isOnStack(op));
    loadHost(c, log);
  } else if (form === Form.RR) c.getRegister(op.r2, log);
  else constant(e, log, op.imm);
  c.setRegister(op.r1, log);
}

/** Moves a 64-bit immediate. For a 32-bit move its upper half is zero. */
export function moveImmediate(c: Context, op: Operation): void {
  c.e.i64((BigInt(op.imm) << 32n) | BigInt(op.disp >>> 0));
  c.setWide(op.r1);
}

const EXTENSIONS: Record<number, readonly [from: number, signed: boolean]> = {
  [G.MOVZX8]: [0, false],
  [G.MOVZX16]: [1, false],
  [G.MOVSX8]: [0, true],
  [G.MOVSX16]: [1, true],
  [G.MOVSX32]: [2, true],
};
export const isExtension = (kind: number): boolean => kind in EXTENSIONS;

export function extend(c: Context, op: Operation): void {
  const { e } = c;
  const [from, signed] = EXTENSIONS[op.kind];
  if (op.form === Form.RM) {
    c.address(op);
    readHost(c, 1 << from);
    if (signed) loadHost(c, from);
    else e.memory(from === 0 ? W.i32_load8_u : W.i32_load16_u, 0);
  } else {
    c.getRegister(op.r2, from);
    if (!signed) {
      e.i32(from === 0 ? 0xff : 0xffff);
      e.op(W.i32_and);
    }
  }
  if (op.log === 3) e.op(W.i64_extend_i32_s);
  c.setRegister(op.r1, op.log);
}

export function loadAddress(c: Context, op: Operation): void {
  const { e } = c;
  c.address(op, 0, false);
  if (op.log < 3) e.op(W.i32_wrap_i64);
  c.setRegister(op.r1, op.log);
}

/** Computes rsp - 8 and sets HOST to where it can be written. */
export function openPush(c: Context): void {
  const { e } = c;
  e.get(c.register(RSP));
  e.i64(8);
  e.op(W.i64_sub);
  writeHost(c, 8, true);
  e.set(HOST);
}

/** Adds `by` to rsp. */
export function moveStack(c: Context, by: number): void {
  const { e } = c;
  e.get(c.register(RSP));
  e.i64(by);
  e.op(W.i64_add);
  c.setWide(RSP);
}

export const canPush = (op: Operation): boolean => op.log === 3;

export function push(c: Context, op: Operation): void {
  const { e } = c;
  if (op.form === Form.M) {
    c.address(op);
    readHost(c, 8);
    loadHost(c, 3);
    e.set(W1);
  }
  openPush(c);
  e.get(HOST);
  if (op.form === Form.M) e.get(W1);
  else if (op.form === Form.RI) e.i64(op.imm);
  else c.getWide(op.r1);
  storeHost(c, 3);
  moveStack(c, -8);
}

export const canPop = (op: Operation): boolean => op.log === 3 && op.form === Form.R;

export function pop(c: Context, op: Operation): void {
  const { e } = c;
  e.get(c.register(RSP));
  readHost(c, 8, true);
  loadHost(c, 3);
  e.set(W1);
  moveStack(c, 8);
  e.get(W1);
  c.setWide(op.r1);
}

export const canLeave = (op: Operation): boolean => op.log === 3;

export function leaveFrame(c: Context): void {
  const { e } = c;
  e.get(c.register(RBP));
  readHost(c, 8, true);
  loadHost(c, 3);
  e.set(W1);
  e.get(c.register(RBP));
  e.i64(8);
  e.op(W.i64_add);
  c.setWide(RSP);
  e.get(W1);
  c.setWide(RBP);
}
