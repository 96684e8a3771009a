/** Loads and stores: the interpreter's fast path (core/access.ts) is inlined, everything else is a call. */
import { TLB_READ, TLB_WRITE } from '../core/layout.js';
import { type Context, Import } from './context.js';
import { CPU, ENTRY, HOST, RESULT, STACK_HOST, STACK_PAGE, TAG, TLB_BASE, VA } from './locals.js';
import { I32, W } from './opcodes.js';

/** Pushes the page of VA if `size` bytes lie in it, otherwise a value that no tag has. */
function page(c: Context, size: number): void {
  const { e } = c;
  e.get(VA);
  if (size > 1) {
    e.i64(size - 1);
    e.op(W.i64_add);
  }
  e.i64(-4096);
  e.op(W.i64_and);
}

/** Pushes the linear address for VA. */
function host(c: Context, size: number, tlb: number, slow: Import, keep: boolean): void {
  const { e } = c;
  c.usesMemory = true;
  c.mayFault = true;
  e.get(VA);
  e.i64(8);
  e.op(W.i64_shr_u);
  e.op(W.i32_wrap_i64);
  e.i32(0x3ff0);
  e.op(W.i32_and);
  e.get(TLB_BASE);
  e.op(W.i32_add);
  e.tee(ENTRY);
  e.memory(W.i64_load, tlb);
  page(c, size);
  e.get(TAG);
  e.op(W.i64_or);
  e.op(W.i64_eq);
  e.open(W.if, I32);
  if (keep) {
    page(c, 1);
    e.set(STACK_PAGE);
  }
  e.get(ENTRY);
  e.memory(W.i32_load, tlb + 8);
  if (keep) e.tee(STACK_HOST);
  e.get(VA);
  e.op(W.i32_wrap_i64);
  e.op(W.i32_add);
  e.else();
  e.i32(c.faultResult);
  e.set(RESULT);
  e.get(CPU);
  e.get(VA);
  e.i32(size);
  e.call(slow);
  e.tee(HOST);
  e.op(W.i32_eqz);
  e.brIf(c.fault);
  e.get(HOST);
  e.end();
}

/** Does the same, trying first the page that was last written through rsp. */
function stackHost(c: Context, size: number, tlb: number, slow: Import, keep: boolean): void {
  const { e } = c;
  c.usesStack = true;
  page(c, size);
  e.get(STACK_PAGE);
  e.op(W.i64_eq);
  e.open(W.if, I32);
  e.get(STACK_HOST);
  e.get(VA);
  e.op(W.i32_wrap_i64);
  e.op(W.i32_add);
  e.else();
  host(c, size, tlb, slow, keep);
  e.end();
}

/** Replaces the guest address on the stack by a linear one. */
export function readHost(c: Context, size: number, onStack = false): void {
  c.e.set(VA);
  (onStack ? stackHost : host)(c, size, TLB_READ, Import.readAt, false);
}
export function writeHost(c: Context, size: number, onStack = false): void {
  c.e.set(VA);
  (onStack ? stackHost : host)(c, size, TLB_WRITE, Import.writeAt, onStack);
}

const LOADS = [W.i32_load8_s, W.i32_load16_s, W.i32_load, W.i64_load];
const STORES = [W.i32_store8, W.i32_store16, W.i32_store, W.i64_store];

/** Loads the value at the linear address on the stack, sign-extended: i64 for 8 bytes, i32 for less. */
export const loadHost = (c: Context, log: number): void => c.e.memory(LOADS[log], 0);
/** Stores the value on the stack at the linear address below it. */
export const storeHost = (c: Context, log: number): void => c.e.memory(STORES[log], 0);
