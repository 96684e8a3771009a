// The interpreter: one loop with one dense switch over decoded operations. Registers, flags and the budget are in
// memory. All instructions of a block are taken off the budget when the block is entered; the remaining ones are
// given back when it is left early. Invariant: at every point that can raise, the vCPU's memory together with
// CURRENT_BLOCK and the operation's address says exactly where the guest is.
import {
  ACCESS_TAG, B_COUNT, B_FRAME2, B_HEAT, B_LIVE, B_REGION, B_USES, BLOCK_HEADER, BLOCK_MAX, BLOCK_ROOM, BLOCK_VA, BUDGET,
  CODE_KIND, CR0, CURRENT_BLOCK, CURRENT_OP, EXIT_LENGTH, EXIT_SOFTWARE, EXIT_VECTOR, EXIT_ERROR, FAULT_ADDRESS, FAULT_CODE,
  FP_DESCRIPTORS_END, FP_NEXT, HEAT_AGAIN, HOT_BATCH, HOT_COUNT, HOT_LIST, HOT_WAITS, JUMP_CACHE, JUMP_ENTRIES, JUMP_TAG, KIND_CHECKED, KIND_LONG,
  O_DISP, O_IMM, O_LENGTH, O_R1, O_R2, O_SCALE, R_EXIT, R_GOTO, R_LINK, R_OPERATION, R_PLAIN, RIP, TLB, TLB_READ,
  TLB_WRITE, XMM,
} from './layout';
import {
  arenaEnd, decodeBlock, EXIT_BUDGET, EXIT_EXCEPTION, EXIT_SYSCALL, GP, hostTranslate, NM, offsetOf, raise,
  raisePageFault, UD,
} from './engine';
import {
  carry, changeCarry, changeCarryAndOverflow, condition, conditionOf, flagsAdc, flagsAdd, flagsIncDec, flagsLogic,
  flagsSbb, flagsShift, flagsSub, shiftOf,
} from './flags';
import { codeAddress, probe, read, readBytes, STACK, write, writeBytes } from './access';
import { address, get1, get2, set1, signed, simpleAddress } from './operands';
import { high64, multiply, multiplySigned } from './muldiv';
import { addBlock, arenaNext, cutBlock, dropAll, findBlock, kill, plainBlock } from './code';
import { canonical, NOT_CANONICAL } from './walk';
import { AGAIN, generic, GONE } from './generic';
import { checkFetch, isLong, NARROW } from './segment';
import { Op } from './ops';

const RSP = 0x20;
const MULTIPLIED: u32 = 0x801;

@inline
function addOp<T>(cpu: usize, a: i64, b: i64): i64 {
  const r = signed<T>(a + b);
  flagsAdd(cpu, a, b, r, shiftOf<T>());
  return r;
}
@inline
function subOp<T>(cpu: usize, a: i64, b: i64): i64 {
  flagsSub(cpu, a, b, shiftOf<T>());
  return a - b;
}
@inline
function andOp<T>(cpu: usize, a: i64, b: i64): i64 {
  const r = a & b;
  flagsLogic(cpu, r, shiftOf<T>());
  return r;
}
@inline
function orOp<T>(cpu: usize, a: i64, b: i64): i64 {
  const r = a | b;
  flagsLogic(cpu, r, shiftOf<T>());
  return r;
}
@inline
function xorOp<T>(cpu: usize, a: i64, b: i64): i64 {
  const r = a ^ b;
  flagsLogic(cpu, r, shiftOf<T>());
  return r;
}
@inline
function adcOp<T>(cpu: usize, a: i64, b: i64): i64 {
  const c = carry(cpu);
  const r = signed<T>(a + b + <i64>c);
  flagsAdc(cpu, a, b, r, c, shiftOf<T>());
  return r;
}
@inline
function sbbOp<T>(cpu: usize, a: i64, b: i64): i64 {
  const c = carry(cpu);
  const r = signed<T>(a - b - <i64>c);
  flagsSbb(cpu, a, b, r, c, shiftOf<T>());
  return r;
}
function imul32(cpu: usize, a: i64, b: i64): i64 {
  const product = a * b;
  const r = <i64><i32>product;
  flagsShift(cpu, r, r != product ? MULTIPLIED : 0, 32);
  return r;
}
function imul64(cpu: usize, a: i64, b: i64): i64 {
  const r = multiplySigned(a, b);
  flagsShift(cpu, r, <i64>high64 != r >> 63 ? MULTIPLIED : 0, 0);
  return r;
}
function mul64(cpu: usize, b: u64): void {
  const r = multiply(load<u64>(cpu), b);
  store<u64>(cpu, r);
  store<u64>(cpu, high64, 0x10);
  flagsShift(cpu, <i64>r, high64 != 0 ? MULTIPLIED : 0, 0);
}
function rotateFlags(cpu: usize, r: u64, top: u64, left: bool): void {
  const high = <u32>(r >> top) & 1;
  const c = left ? <u32>r & 1 : high;
  const other = left ? c : <u32>(r >> (top - 1)) & 1;
  changeCarryAndOverflow(cpu, c | ((high ^ other) << 11));
}

function readVector(cpu: usize, tlb: usize, tag: u64, op: usize, va: u64, to: usize): void {
  if (load<u32>(cpu, CR0) & 12) refuseSse(cpu, op);
  if (load<u8>(op, O_R2) && (va & 15) != 0) {
    store<u32>(cpu, <u32>op, CURRENT_OP);
    raise(cpu, GP, 0);
  }
  const at = tlb + TLB_READ + (<usize>(va >> 8) & 0x3ff0);
  if (load<u64>(at) == (((va + 15) & ~0xfff) | tag)) v128.store(to, v128.load(<usize>(load<u32>(at, 8) + <u32>va)));
  else {
    store<u32>(cpu, <u32>op, CURRENT_OP);
    readBytes(cpu, op, va, to, 16);
  }
}
function writeVector(cpu: usize, tlb: usize, tag: u64, op: usize, va: u64, from: usize): void {
  if (load<u32>(cpu, CR0) & 12) refuseSse(cpu, op);
  if (load<u8>(op, O_R2) && (va & 15) != 0) {
    store<u32>(cpu, <u32>op, CURRENT_OP);
    raise(cpu, GP, 0);
  }
  const at = tlb + TLB_WRITE + (<usize>(va >> 8) & 0x3ff0);
  if (load<u64>(at) == (((va + 15) & ~0xfff) | tag)) v128.store(<usize>(load<u32>(at, 8) + <u32>va), v128.load(from));
  else {
    store<u32>(cpu, <u32>op, CURRENT_OP);
    writeBytes(cpu, op, va, from, 16);
  }
}
function refuseSse(cpu: usize, op: usize): void {
  store<u32>(cpu, <u32>op, CURRENT_OP);
  raise(cpu, load<u32>(cpu, CR0) & 4 ? UD : NM, 0);
}

/** Returns the operations of a block that is being entered, after taking its instructions off the budget. */
@inline
function enter(cpu: usize, block: usize): usize {
  const left = load<i32>(cpu, BUDGET) - load<i32>(block, B_COUNT);
  if (left < 0) return enterPart(cpu, block);
  store<i32>(cpu, left, BUDGET);
  store<u32>(cpu, <u32>block, CURRENT_BLOCK);
  const heat = load<i32>(block, B_HEAT) - 1;
  store<i32>(block, heat, B_HEAT);
  if (heat == 0) becomeHot(cpu, block);
  return block + BLOCK_HEADER;
}

/**
 * A block that was executed often enough waits for others, so that they are translated together. If it becomes hot a
 * second time, it is translated without waiting.
 */
function becomeHot(cpu: usize, block: usize): void {
  const batch = load<u32>(HOT_BATCH);
  if (batch == 0 || load<u32>(block, B_LIVE) != KIND_LONG + 1) return;
  let count = load<u32>(HOT_COUNT);
  if ((load<u32>(block, B_USES) & HOT_WAITS) == 0) {
    const at: usize = HOT_LIST + (<usize>count << 4);
    store<u32>(at, <u32>block);
    store<u64>(at, load<u64>(cpu, BLOCK_VA), 8);
    store<u32>(block, load<u32>(block, B_USES) | HOT_WAITS, B_USES);
    store<u32>(block, load<u32>(HEAT_AGAIN), B_HEAT);
    store<u32>(HOT_COUNT, ++count);
    if (count < batch) return;
  }
  hostTranslate(cpu);
}

/**
 * Runs translated regions, beginning with that of the present block, whose instructions are already taken off the
 * budget. Returns the operation at which to continue, or an exit (below 16). Regions take their instructions off the
 * budget themselves.
 */
function runRegions(cpu: usize): usize {
  let block: usize = load<u32>(cpu, CURRENT_BLOCK);
  let region = load<u32>(block, B_REGION);
  store<i32>(cpu, load<i32>(cpu, BUDGET) + load<i32>(block, B_COUNT), BUDGET);
  while (true) {
    const r = call_indirect<u32>(region, cpu);
    const kind = r & 15;
    if (kind == R_GOTO) {
      const va = load<u64>(cpu, BLOCK_VA);
      const at = jumpEntry(cpu, va);
      block = load<u64>(at) == va && load<u32>(at, 12) == load<u32>(cpu, JUMP_TAG) ? <usize>load<u32>(at, 8) : lookup(cpu, va);
    } else {
      if (kind == R_OPERATION) return r;
      block = r & ~15;
      if (kind != R_LINK) {
        if (kind == R_EXIT) return r >> 4;
        if (kind == R_PLAIN) {
          const left = load<i32>(cpu, BUDGET) - load<i32>(block, B_COUNT);
          if (left < 0) return enterPart(cpu, block);
          store<i32>(cpu, left, BUDGET);
        }
        const plain = plainBlock(block);
        store<u32>(cpu, <u32>plain, CURRENT_BLOCK);
        return plain + BLOCK_HEADER;
      }
    }
    region = load<u32>(block, B_REGION);
    if (region == 0) {
      // Entering the block may make it the first block of a region.
      const op = enter(cpu, block);
      region = load<u32>(block, B_REGION);
      if (region == 0 || load<u16>(op) != Op.TRANSLATED) return op;
      store<i32>(cpu, load<i32>(cpu, BUDGET) + load<i32>(block, B_COUNT), BUDGET);
    }
  }
}

function enterPart(cpu: usize, block: usize): usize {
  const part = cutBlock(block, load<i32>(cpu, BUDGET));
  store<i32>(cpu, 0, BUDGET);
  store<u32>(cpu, <u32>part, CURRENT_BLOCK);
  return part + BLOCK_HEADER;
}

@inline
function jumpEntry(cpu: usize, va: u64): usize {
  return cpu + JUMP_CACHE + (<usize>((va ^ (va >> 12)) & (JUMP_ENTRIES - 1)) << 4);
}

/** Control goes to va: returns the operations to execute. */
@inline
function goto(cpu: usize, va: u64): usize {
  const at = jumpEntry(cpu, va);
  store<u64>(cpu, va, BLOCK_VA);
  if (load<u64>(at) == va && load<u32>(at, 12) == load<u32>(cpu, JUMP_TAG)) return enter(cpu, load<u32>(at, 8));
  return enter(cpu, lookup(cpu, va));
}

function refuseFetch(cpu: usize): void {
  const code = load<u32>(cpu, FAULT_CODE);
  if (code == NOT_CANONICAL) raise(cpu, GP, 0);
  raisePageFault(cpu, load<u64>(cpu, FAULT_ADDRESS), code);
}

/** Returns the block at va. It is decoded if necessary. */
export function lookup(cpu: usize, va: u64): usize {
  if (va > NARROW && !isLong(cpu)) {
    va &= NARROW;
    store<u64>(cpu, va, BLOCK_VA);
  }
  // A fault from here on is a fault of the fetch: the guest is at va, between two blocks.
  store<u32>(cpu, 0, CURRENT_BLOCK);
  store<u64>(cpu, va, RIP);
  const at = codeAddress(cpu, va);
  if (at == 0) refuseFetch(cpu);
  let block = findBlock(<u32>at, load<u32>(cpu, CODE_KIND));
  if (block != 0) {
    const second: usize = load<u32>(block, B_FRAME2);
    if (second != 0) {
      const now = codeAddress(cpu, isLong(cpu) ? (va | 4095) + 1 : ((va | 4095) + 1) & NARROW);
      if (now == 0) refuseFetch(cpu);
      // The block has the same first page but another second page, so it is a different instruction.
      if (now != second) {
        kill(block);
        block = decode(cpu, va, at);
      }
      return block;
    }
  } else block = decode(cpu, va, at);
  if (load<u32>(block, B_FRAME2) == 0) {
    const entry = jumpEntry(cpu, va);
    store<u64>(entry, va);
    store<u32>(entry, <u32>block, 8);
    store<u32>(entry, load<u32>(cpu, JUMP_TAG), 12);
  }
  return block;
}

function decode(cpu: usize, va: u64, at: usize): usize {
  if (arenaNext + BLOCK_ROOM > arenaEnd || load<i32>(FP_NEXT) + BLOCK_MAX * 16 > FP_DESCRIPTORS_END) dropAll();
  const block = arenaNext;
  // decodeBlock returns the number of operations, and leaves the number of instructions and bytes and the second page
  // in the header.
  const slots = decodeBlock(cpu, <i64>va, at, block);
  if (slots == 0) refuseFetch(cpu);
  return addBlock(<u32>at, slots, load<u32>(cpu, CODE_KIND));
}

/** Decodes the block at this linear address before it is needed, if it ends in its page and there is room. */
export function prepareBlock(at: u32): void {
  if (findBlock(at, KIND_LONG) != 0) return;
  if (arenaNext + BLOCK_ROOM > arenaEnd || load<i32>(FP_NEXT) + BLOCK_MAX * 16 > FP_DESCRIPTORS_END) return;
  const slots = decodeBlock(0, 0, at, arenaNext);
  if (slots != 0) addBlock(at, slots, KIND_LONG);
}

/** An indirect branch to a non-canonical address faults at the branch. */
@inline
function checkTarget(cpu: usize, op: usize, va: u64): void {
  if (!canonical(va)) refuseTarget(cpu, op);
}

function refuseTarget(cpu: usize, op: usize): void {
  store<u32>(cpu, <u32>op, CURRENT_OP);
  raise(cpu, GP, 0);
}

/**
 * A direct branch by the offset in `field` of the operation. If its target is in the same page, the block is
 * remembered in `link`.
 */
@inline
function branch(cpu: usize, op: usize, field: usize, link: usize): usize {
  const block: usize = load<u32>(op + link);
  const va = load<u64>(cpu, BLOCK_VA) + <u64><i64>load<i32>(op + field);
  if (block != 0) {
    store<u64>(cpu, va, BLOCK_VA);
    return enter(cpu, block);
  }
  return branchSlow(cpu, op + link, va);
}

function branchSlow(cpu: usize, link: usize, va: u64): usize {
  const from = load<u64>(cpu, BLOCK_VA);
  const next = arenaNext;
  store<u64>(cpu, va, BLOCK_VA);
  const entry = jumpEntry(cpu, va);
  const known = load<u64>(entry) == va && load<u32>(entry, 12) == load<u32>(cpu, JUMP_TAG);
  const block = known ? <usize>load<u32>(entry, 8) : lookup(cpu, va);
  // The link is not set if decoding has dropped all code, including this operation.
  if (((from ^ va) & ~0xfff) == 0 && load<u32>(block, B_FRAME2) == 0 && arenaNext >= next) store<u32>(link, <u32>block);
  return enter(cpu, block);
}

/**
 * Returns rip, after the present instruction if `behind` is true. The remaining instructions of its block are given
 * back to the budget.
 */
export function stop(cpu: usize, op: usize, behind: bool): u64 {
  const block: usize = load<u32>(cpu, CURRENT_BLOCK);
  let done = 1;
  for (let at = block + BLOCK_HEADER; at < op; at += 16) done++;
  store<i32>(cpu, load<i32>(cpu, BUDGET) + load<i32>(block, B_COUNT) - done, BUDGET);
  const va = load<u64>(cpu, BLOCK_VA) + offsetOf(block, op) + (behind ? load<u8>(op, O_LENGTH) : 0);
  store<u64>(cpu, va, RIP);
  return va;
}

function exit(cpu: usize, op: usize): i32 {
  const reason: i32 = load<u8>(op, O_R1);
  const block: usize = load<u32>(cpu, CURRENT_BLOCK);
  const va = load<u64>(cpu, BLOCK_VA) + offsetOf(block, op);
  const length = load<u8>(op, O_LENGTH);
  store<u32>(cpu, length, EXIT_LENGTH);
  store<u64>(cpu, va, RIP);
  if (reason == EXIT_SYSCALL || reason == EXIT_EXCEPTION) store<u64>(cpu, va + length, RIP);
  else store<i32>(cpu, load<i32>(cpu, BUDGET) + 1, BUDGET);
  if (reason == EXIT_EXCEPTION) {
    store<u32>(cpu, load<u8>(op, O_IMM), EXIT_VECTOR);
    store<u32>(cpu, 0, EXIT_ERROR);
    store<u32>(cpu, load<u8>(op, O_R2) ^ 1, EXIT_SOFTWARE);
  }
  return reason;
}

/** jrcxz and loop. R2 is 0 for jrcxz, 1 for loop, 2 for loope, 3 for loopne. SCALE is as in an address. */
function loopTaken(cpu: usize, op: usize): bool {
  const kind = load<u8>(op, O_R2);
  const narrow = (load<u8>(op, O_SCALE) & 4) != 0;
  const rcx = load<u64>(cpu, 8);
  if (kind == 0) return (narrow ? rcx & 0xffff_ffff : rcx) == 0;
  const after = narrow ? (rcx - 1) & 0xffff_ffff : rcx - 1;
  store<u64>(cpu, after, 8);
  return after != 0 && (kind == 1 || conditionOf(cpu, 4) == (kind == 2));
}

/**
 * Returns the operations at RIP. For code in a segment with a limit this is one instruction, which must lie below the
 * limit.
 */
function beginAt(cpu: usize): usize {
  const va = load<u64>(cpu, RIP);
  if (load<u32>(cpu, CODE_KIND) < <u32>KIND_CHECKED) return goto(cpu, va);
  checkFetch(cpu, va, 1);
  const op = goto(cpu, va);
  store<u32>(cpu, <u32>op, CURRENT_OP);
  checkFetch(cpu, va, load<u8>(op, O_LENGTH));
  return op;
}

/** Runs the vCPU from RIP and returns the exit. BUDGET must be set. */
export function interpret(cpu: usize): i32 {
  const tlb: usize = load<u32>(cpu, TLB);
  const tag = load<u64>(cpu, ACCESS_TAG);
  let op = beginAt(cpu);
  while (true) {
    const code: u32 = load<u16>(op);
    switch (code) {
      case Op.DEAD:
        store<i32>(cpu, load<i32>(cpu, BUDGET) + load<i32>(load<u32>(cpu, CURRENT_BLOCK), B_COUNT), BUDGET);
        op = enter(cpu, lookup(cpu, load<u64>(cpu, BLOCK_VA)));
        continue;
      case Op.LEAVE:
        store<i32>(cpu, load<i32>(cpu, BUDGET) + load<i32>(op, O_DISP), BUDGET);
        op = goto(cpu, load<u64>(cpu, BLOCK_VA) + offsetOf(load<u32>(cpu, CURRENT_BLOCK), op));
        continue;
      case Op.BUDGET_END:
        store<u64>(cpu, load<u64>(cpu, BLOCK_VA) + offsetOf(load<u32>(cpu, CURRENT_BLOCK), op), RIP);
        return EXIT_BUDGET;
      case Op.TRANSLATED:
        op = runRegions(cpu);
        if (op < 16) return <i32>op;
        continue;
      case Op.NEXT: op = branch(cpu, op, O_DISP, 16); continue;
      case Op.NOP: op += 16; continue;
      case Op.EXIT: return exit(cpu, op);
      case Op.JO: op = condition(cpu, 0) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JNO: op = condition(cpu, 1) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JB: op = condition(cpu, 2) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JAE: op = condition(cpu, 3) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JE: op = condition(cpu, 4) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JNE: op = condition(cpu, 5) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JBE: op = condition(cpu, 6) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JA: op = condition(cpu, 7) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JS: op = condition(cpu, 8) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JNS: op = condition(cpu, 9) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JP: op = condition(cpu, 10) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JNP: op = condition(cpu, 11) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JL: op = condition(cpu, 12) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JGE: op = condition(cpu, 13) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JLE: op = condition(cpu, 14) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JG: op = condition(cpu, 15) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.LOOP: op = loopTaken(cpu, op) ? branch(cpu, op, O_DISP, 16) : branch(cpu, op, O_IMM, 20); continue;
      case Op.JMP: op = branch(cpu, op, O_DISP, 16); continue;
      case Op.JMP_R: {
        const to = load<u64>(cpu + load<u8>(op, O_R1));
        checkTarget(cpu, op, to);
        op = goto(cpu, to);
        continue;
      }
      case Op.JMP_M: {
        const to = read<u64>(cpu, tlb, tag, op, address(cpu, op));
        checkTarget(cpu, op, to);
        op = goto(cpu, to);
        continue;
      }
      case Op.CALL: {
        const rsp = load<u64>(cpu, RSP) - 8;
        write<u64>(cpu, tlb, tag, op | STACK, rsp, load<u64>(cpu, BLOCK_VA) + load<u32>(op, O_IMM));
        store<u64>(cpu, rsp, RSP);
        op = branch(cpu, op, O_DISP, 16);
        continue;
      }
      case Op.CALL_R: {
        const to = load<u64>(cpu + load<u8>(op, O_R1));
        checkTarget(cpu, op, to);
        const rsp = load<u64>(cpu, RSP) - 8;
        write<u64>(cpu, tlb, tag, op | STACK, rsp, load<u64>(cpu, BLOCK_VA) + load<u32>(op, O_IMM));
        store<u64>(cpu, rsp, RSP);
        op = goto(cpu, to);
        continue;
      }
      case Op.CALL_M: {
        const to = read<u64>(cpu, tlb, tag, op, address(cpu, op));
        checkTarget(cpu, op, to);
        const rsp = load<u64>(cpu, RSP) - 8;
        write<u64>(cpu, tlb, tag, op | STACK, rsp, load<u64>(cpu, BLOCK_VA) + load<u32>(op, O_IMM));
        store<u64>(cpu, rsp, RSP);
        op = goto(cpu, to);
        continue;
      }
      case Op.RET: {
        const rsp = load<u64>(cpu, RSP);
        const to = read<u64>(cpu, tlb, tag, op | STACK, rsp);
        checkTarget(cpu, op, to);
        store<u64>(cpu, rsp + 8 + load<u32>(op, O_IMM), RSP);
        op = goto(cpu, to);
        continue;
      }
      case Op.PUSH_R: {
        const rsp = load<u64>(cpu, RSP) - 8;
        write<u64>(cpu, tlb, tag, op | STACK, rsp, load<u64>(cpu + load<u8>(op, O_R1)));
        store<u64>(cpu, rsp, RSP);
        op += 16;
        continue;
      }
      case Op.PUSH_I: {
        const rsp = load<u64>(cpu, RSP) - 8;
        write<i64>(cpu, tlb, tag, op | STACK, rsp, <i64>load<i32>(op, O_IMM));
        store<u64>(cpu, rsp, RSP);
        op += 16;
        continue;
      }
      case Op.POP_R: {
        const rsp = load<u64>(cpu, RSP);
        const v = read<u64>(cpu, tlb, tag, op | STACK, rsp);
        store<u64>(cpu, rsp + 8, RSP);
        store<u64>(cpu + load<u8>(op, O_R1), v);
        op += 16;
        continue;
      }
      case Op.MOV_RR32: { set1<i32>(cpu, op, get2<i32>(cpu, op)); op += 16; continue; }
      case Op.MOV_RR64: { set1<i64>(cpu, op, get2<i64>(cpu, op)); op += 16; continue; }
      case Op.MOV_RI: { set1<i64>(cpu, op, load<i64>(op, O_DISP)); op += 16; continue; }
      case Op.MOV_RB32: { set1<i32>(cpu, op, <i64>read<i32>(cpu, tlb, tag, op, simpleAddress(cpu, op))); op += 16; continue; }
      case Op.MOV_RB64: { set1<i64>(cpu, op, <i64>read<i64>(cpu, tlb, tag, op, simpleAddress(cpu, op))); op += 16; continue; }
      case Op.MOV_RM32: { set1<i32>(cpu, op, <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOV_RM64: { set1<i64>(cpu, op, <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOV_BR32: { write<i32>(cpu, tlb, tag, op, simpleAddress(cpu, op), <i32>get2<i32>(cpu, op)); op += 16; continue; }
      case Op.MOV_BR64: { write<i64>(cpu, tlb, tag, op, simpleAddress(cpu, op), <i64>get2<i64>(cpu, op)); op += 16; continue; }
      case Op.MOV_MR8: { write<i8>(cpu, tlb, tag, op, address(cpu, op), <i8>get2<i8>(cpu, op)); op += 16; continue; }
      case Op.MOV_MR16: { write<i16>(cpu, tlb, tag, op, address(cpu, op), <i16>get2<i16>(cpu, op)); op += 16; continue; }
      case Op.MOV_MR32: { write<i32>(cpu, tlb, tag, op, address(cpu, op), <i32>get2<i32>(cpu, op)); op += 16; continue; }
      case Op.MOV_MR64: { write<i64>(cpu, tlb, tag, op, address(cpu, op), <i64>get2<i64>(cpu, op)); op += 16; continue; }
      case Op.MOV_MI8: { write<i8>(cpu, tlb, tag, op, address(cpu, op), <i8>load<i32>(op, O_IMM)); op += 16; continue; }
      case Op.MOV_MI32: { write<i32>(cpu, tlb, tag, op, address(cpu, op), <i32>load<i32>(op, O_IMM)); op += 16; continue; }
      case Op.MOV_MI64: { write<i64>(cpu, tlb, tag, op, address(cpu, op), <i64>load<i32>(op, O_IMM)); op += 16; continue; }
      case Op.MOVZX8_RR: { set1<i64>(cpu, op, get2<u8>(cpu, op)); op += 16; continue; }
      case Op.MOVZX16_RR: { set1<i64>(cpu, op, get2<u16>(cpu, op)); op += 16; continue; }
      case Op.MOVZX8_RB: { set1<i64>(cpu, op, <i64>read<u8>(cpu, tlb, tag, op, simpleAddress(cpu, op))); op += 16; continue; }
      case Op.MOVZX8_RM: { set1<i64>(cpu, op, <i64>read<u8>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOVZX16_RM: { set1<i64>(cpu, op, <i64>read<u16>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOVSX8_RR32: { set1<i32>(cpu, op, get2<i8>(cpu, op)); op += 16; continue; }
      case Op.MOVSX8_RM32: { set1<i32>(cpu, op, <i64>read<i8>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOVSX16_RR32: { set1<i32>(cpu, op, get2<i16>(cpu, op)); op += 16; continue; }
      case Op.MOVSX16_RM32: { set1<i32>(cpu, op, <i64>read<i16>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOVSX8_RM64: { set1<i64>(cpu, op, <i64>read<i8>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.MOVSX32_RR64: { set1<i64>(cpu, op, get2<i32>(cpu, op)); op += 16; continue; }
      case Op.MOVSX32_RM64: { set1<i64>(cpu, op, <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op))); op += 16; continue; }
      case Op.LEA_B32: { set1<i32>(cpu, op, <i64>simpleAddress(cpu, op)); op += 16; continue; }
      case Op.LEA_B64: { set1<i64>(cpu, op, <i64>simpleAddress(cpu, op)); op += 16; continue; }
      case Op.LEA_M32: { set1<i32>(cpu, op, <i64>address(cpu, op)); op += 16; continue; }
      case Op.LEA_M64: { set1<i64>(cpu, op, <i64>address(cpu, op)); op += 16; continue; }
      case Op.ADD_RR32: { set1<i32>(cpu, op, addOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.ADD_RI32: { set1<i32>(cpu, op, addOp<i32>(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.ADD_RM32: { const b = <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)); set1<i32>(cpu, op, addOp<i32>(cpu, get1<i32>(cpu, op), b)); op += 16; continue; }
      case Op.ADD_MR32: { const va = address(cpu, op); probe<i32>(cpu, tlb, tag, op, va); const r = addOp<i32>(cpu, <i64>read<i32>(cpu, tlb, tag, op, va), get2<i32>(cpu, op)); write<i32>(cpu, tlb, tag, op, va, <i32>r); op += 16; continue; }
      case Op.ADD_MI32: { const va = address(cpu, op); probe<i32>(cpu, tlb, tag, op, va); const r = addOp<i32>(cpu, <i64>read<i32>(cpu, tlb, tag, op, va), <i64>load<i32>(op, O_IMM)); write<i32>(cpu, tlb, tag, op, va, <i32>r); op += 16; continue; }
      case Op.ADD_RR64: { set1<i64>(cpu, op, addOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.ADD_RI64: { set1<i64>(cpu, op, addOp<i64>(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.ADD_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, addOp<i64>(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.ADD_MR64: { const va = address(cpu, op); probe<i64>(cpu, tlb, tag, op, va); const r = addOp<i64>(cpu, <i64>read<i64>(cpu, tlb, tag, op, va), get2<i64>(cpu, op)); write<i64>(cpu, tlb, tag, op, va, <i64>r); op += 16; continue; }
      case Op.ADD_MI64: { const va = address(cpu, op); probe<i64>(cpu, tlb, tag, op, va); const r = addOp<i64>(cpu, <i64>read<i64>(cpu, tlb, tag, op, va), <i64>load<i32>(op, O_IMM)); write<i64>(cpu, tlb, tag, op, va, <i64>r); op += 16; continue; }
      case Op.SUB_RR32: { set1<i32>(cpu, op, subOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.SUB_RI32: { set1<i32>(cpu, op, subOp<i32>(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.SUB_RM32: { const b = <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)); set1<i32>(cpu, op, subOp<i32>(cpu, get1<i32>(cpu, op), b)); op += 16; continue; }
      case Op.SUB_MI32: { const va = address(cpu, op); probe<i32>(cpu, tlb, tag, op, va); const r = subOp<i32>(cpu, <i64>read<i32>(cpu, tlb, tag, op, va), <i64>load<i32>(op, O_IMM)); write<i32>(cpu, tlb, tag, op, va, <i32>r); op += 16; continue; }
      case Op.SUB_RR64: { set1<i64>(cpu, op, subOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.SUB_RI64: { set1<i64>(cpu, op, subOp<i64>(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.SUB_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, subOp<i64>(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.SUB_MR64: { const va = address(cpu, op); probe<i64>(cpu, tlb, tag, op, va); const r = subOp<i64>(cpu, <i64>read<i64>(cpu, tlb, tag, op, va), get2<i64>(cpu, op)); write<i64>(cpu, tlb, tag, op, va, <i64>r); op += 16; continue; }
      case Op.AND_RR32: { set1<i32>(cpu, op, andOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.AND_RI32: { set1<i32>(cpu, op, andOp<i32>(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.AND_RM32: { const b = <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)); set1<i32>(cpu, op, andOp<i32>(cpu, get1<i32>(cpu, op), b)); op += 16; continue; }
      case Op.AND_RR64: { set1<i64>(cpu, op, andOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.AND_RI64: { set1<i64>(cpu, op, andOp<i64>(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.AND_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, andOp<i64>(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.OR_RR32: { set1<i32>(cpu, op, orOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.OR_RI32: { set1<i32>(cpu, op, orOp<i32>(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.OR_RM32: { const b = <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)); set1<i32>(cpu, op, orOp<i32>(cpu, get1<i32>(cpu, op), b)); op += 16; continue; }
      case Op.OR_RR64: { set1<i64>(cpu, op, orOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.OR_RI64: { set1<i64>(cpu, op, orOp<i64>(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.OR_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, orOp<i64>(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.XOR_RR32: { set1<i32>(cpu, op, xorOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.XOR_RI32: { set1<i32>(cpu, op, xorOp<i32>(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.XOR_RM32: { const b = <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)); set1<i32>(cpu, op, xorOp<i32>(cpu, get1<i32>(cpu, op), b)); op += 16; continue; }
      case Op.XOR_RR64: { set1<i64>(cpu, op, xorOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.XOR_RI64: { set1<i64>(cpu, op, xorOp<i64>(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.XOR_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, xorOp<i64>(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.ADC_RR32: { set1<i32>(cpu, op, adcOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.ADC_RI32: { set1<i32>(cpu, op, adcOp<i32>(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.SBB_RR32: { set1<i32>(cpu, op, sbbOp<i32>(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.ADC_RR64: { set1<i64>(cpu, op, adcOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.ADC_RI64: { set1<i64>(cpu, op, adcOp<i64>(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.SBB_RR64: { set1<i64>(cpu, op, sbbOp<i64>(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.ADC_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, adcOp<i64>(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.CMP_RR8: { flagsSub(cpu, get1<i8>(cpu, op), get2<i8>(cpu, op), shiftOf<i8>()); op += 16; continue; }
      case Op.CMP_RI8: { flagsSub(cpu, get1<i8>(cpu, op), <i64>load<i32>(op, O_IMM), shiftOf<i8>()); op += 16; continue; }
      case Op.CMP_RM8: { flagsSub(cpu, get1<i8>(cpu, op), <i64>read<i8>(cpu, tlb, tag, op, address(cpu, op)), shiftOf<i8>()); op += 16; continue; }
      case Op.CMP_MR8: { flagsSub(cpu, <i64>read<i8>(cpu, tlb, tag, op, address(cpu, op)), get2<i8>(cpu, op), shiftOf<i8>()); op += 16; continue; }
      case Op.CMP_MI8: { flagsSub(cpu, <i64>read<i8>(cpu, tlb, tag, op, address(cpu, op)), <i64>load<i32>(op, O_IMM), shiftOf<i8>()); op += 16; continue; }
      case Op.TEST_RR8: { flagsLogic(cpu, get1<i8>(cpu, op) & get2<i8>(cpu, op), shiftOf<i8>()); op += 16; continue; }
      case Op.TEST_RI8: { flagsLogic(cpu, get1<i8>(cpu, op) & <i64>load<i32>(op, O_IMM), shiftOf<i8>()); op += 16; continue; }
      case Op.TEST_MI8: { flagsLogic(cpu, <i64>read<i8>(cpu, tlb, tag, op, address(cpu, op)) & <i64>load<i32>(op, O_IMM), shiftOf<i8>()); op += 16; continue; }
      case Op.CMP_RR32: { flagsSub(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op), shiftOf<i32>()); op += 16; continue; }
      case Op.CMP_RI32: { flagsSub(cpu, get1<i32>(cpu, op), <i64>load<i32>(op, O_IMM), shiftOf<i32>()); op += 16; continue; }
      case Op.CMP_RM32: { flagsSub(cpu, get1<i32>(cpu, op), <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)), shiftOf<i32>()); op += 16; continue; }
      case Op.CMP_MR32: { flagsSub(cpu, <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)), get2<i32>(cpu, op), shiftOf<i32>()); op += 16; continue; }
      case Op.CMP_MI32: { flagsSub(cpu, <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)), <i64>load<i32>(op, O_IMM), shiftOf<i32>()); op += 16; continue; }
      case Op.TEST_RR32: { flagsLogic(cpu, get1<i32>(cpu, op) & get2<i32>(cpu, op), shiftOf<i32>()); op += 16; continue; }
      case Op.TEST_RI32: { flagsLogic(cpu, get1<i32>(cpu, op) & <i64>load<i32>(op, O_IMM), shiftOf<i32>()); op += 16; continue; }
      case Op.TEST_MI32: { flagsLogic(cpu, <i64>read<i32>(cpu, tlb, tag, op, address(cpu, op)) & <i64>load<i32>(op, O_IMM), shiftOf<i32>()); op += 16; continue; }
      case Op.CMP_RR64: { flagsSub(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op), shiftOf<i64>()); op += 16; continue; }
      case Op.CMP_RI64: { flagsSub(cpu, get1<i64>(cpu, op), <i64>load<i32>(op, O_IMM), shiftOf<i64>()); op += 16; continue; }
      case Op.CMP_RM64: { flagsSub(cpu, get1<i64>(cpu, op), <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)), shiftOf<i64>()); op += 16; continue; }
      case Op.CMP_MR64: { flagsSub(cpu, <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)), get2<i64>(cpu, op), shiftOf<i64>()); op += 16; continue; }
      case Op.CMP_MI64: { flagsSub(cpu, <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)), <i64>load<i32>(op, O_IMM), shiftOf<i64>()); op += 16; continue; }
      case Op.TEST_RR64: { flagsLogic(cpu, get1<i64>(cpu, op) & get2<i64>(cpu, op), shiftOf<i64>()); op += 16; continue; }
      case Op.INC_R32: { const a = get1<i32>(cpu, op); flagsIncDec(cpu, a, -1, shiftOf<i32>()); set1<i32>(cpu, op, a + 1); op += 16; continue; }
      case Op.DEC_R32: { const a = get1<i32>(cpu, op); flagsIncDec(cpu, a, 1, shiftOf<i32>()); set1<i32>(cpu, op, a - 1); op += 16; continue; }
      case Op.NEG_R32: { const a = get1<i32>(cpu, op); flagsSub(cpu, 0, a, shiftOf<i32>()); set1<i32>(cpu, op, -a); op += 16; continue; }
      case Op.NOT_R32: { set1<i32>(cpu, op, ~get1<i32>(cpu, op)); op += 16; continue; }
      case Op.SHL_RI32: { const n: i64 = load<u8>(op, O_IMM); const a = get1<i32>(cpu, op); const r = signed<i32>(a << n); const c = <u32>(a >> (32 - n)) & 1; flagsShift(cpu, r, c | ((<u32>(<u64>r >> 63) ^ c) << 11), shiftOf<i32>()); set1<i32>(cpu, op, r); op += 16; continue; }
      case Op.SHR_RI32: { const n: u64 = load<u8>(op, O_IMM); const a = get1<i32>(cpu, op); const v = <u64>a & 0xffff_ffff; const r = signed<i32>(<i64>(v >> n)); flagsShift(cpu, r, (<u32>(v >> (n - 1)) & 1) | (n == 1 ? <u32>(v >> 31) << 11 : 0), shiftOf<i32>()); set1<i32>(cpu, op, r); op += 16; continue; }
      case Op.SAR_RI32: { const n: i64 = load<u8>(op, O_IMM); const a = get1<i32>(cpu, op); const r = a >> n; flagsShift(cpu, r, <u32>(a >> (n - 1)) & 1, shiftOf<i32>()); set1<i32>(cpu, op, r); op += 16; continue; }
      case Op.ROL_RI32: { const r = rotl<u32>(<u32>get1<i32>(cpu, op), load<u8>(op, O_IMM)); rotateFlags(cpu, <u64>r, 31, true); set1<i32>(cpu, op, <i64>r); op += 16; continue; }
      case Op.ROR_RI32: { const r = rotr<u32>(<u32>get1<i32>(cpu, op), load<u8>(op, O_IMM)); rotateFlags(cpu, <u64>r, 31, false); set1<i32>(cpu, op, <i64>r); op += 16; continue; }
      case Op.INC_R64: { const a = get1<i64>(cpu, op); flagsIncDec(cpu, a, -1, shiftOf<i64>()); set1<i64>(cpu, op, a + 1); op += 16; continue; }
      case Op.DEC_R64: { const a = get1<i64>(cpu, op); flagsIncDec(cpu, a, 1, shiftOf<i64>()); set1<i64>(cpu, op, a - 1); op += 16; continue; }
      case Op.NEG_R64: { const a = get1<i64>(cpu, op); flagsSub(cpu, 0, a, shiftOf<i64>()); set1<i64>(cpu, op, -a); op += 16; continue; }
      case Op.NOT_R64: { set1<i64>(cpu, op, ~get1<i64>(cpu, op)); op += 16; continue; }
      case Op.SHL_RI64: { const n: i64 = load<u8>(op, O_IMM); const a = get1<i64>(cpu, op); const r = signed<i64>(a << n); const c = <u32>(a >> (64 - n)) & 1; flagsShift(cpu, r, c | ((<u32>(<u64>r >> 63) ^ c) << 11), shiftOf<i64>()); set1<i64>(cpu, op, r); op += 16; continue; }
      case Op.SHR_RI64: { const n: u64 = load<u8>(op, O_IMM); const a = get1<i64>(cpu, op); const v = <u64>a; const r = signed<i64>(<i64>(v >> n)); flagsShift(cpu, r, (<u32>(v >> (n - 1)) & 1) | (n == 1 ? <u32>(v >> 63) << 11 : 0), shiftOf<i64>()); set1<i64>(cpu, op, r); op += 16; continue; }
      case Op.SAR_RI64: { const n: i64 = load<u8>(op, O_IMM); const a = get1<i64>(cpu, op); const r = a >> n; flagsShift(cpu, r, <u32>(a >> (n - 1)) & 1, shiftOf<i64>()); set1<i64>(cpu, op, r); op += 16; continue; }
      case Op.ROL_RI64: { const r = rotl<u64>(<u64>get1<i64>(cpu, op), load<u8>(op, O_IMM)); rotateFlags(cpu, <u64>r, 63, true); set1<i64>(cpu, op, <i64>r); op += 16; continue; }
      case Op.ROR_RI64: { const r = rotr<u64>(<u64>get1<i64>(cpu, op), load<u8>(op, O_IMM)); rotateFlags(cpu, <u64>r, 63, false); set1<i64>(cpu, op, <i64>r); op += 16; continue; }
      case Op.IMUL_RR32: { set1<i32>(cpu, op, imul32(cpu, get1<i32>(cpu, op), get2<i32>(cpu, op))); op += 16; continue; }
      case Op.IMUL_RR64: { set1<i64>(cpu, op, imul64(cpu, get1<i64>(cpu, op), get2<i64>(cpu, op))); op += 16; continue; }
      case Op.IMUL_RM64: { const b = <i64>read<i64>(cpu, tlb, tag, op, address(cpu, op)); set1<i64>(cpu, op, imul64(cpu, get1<i64>(cpu, op), b)); op += 16; continue; }
      case Op.IMUL_RRI32: { set1<i32>(cpu, op, imul32(cpu, get2<i32>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.IMUL_RRI64: { set1<i64>(cpu, op, imul64(cpu, get2<i64>(cpu, op), <i64>load<i32>(op, O_IMM))); op += 16; continue; }
      case Op.MUL_R64: { mul64(cpu, load<u64>(cpu + load<u8>(op, O_R1))); op += 16; continue; }
      case Op.CMOV_RR32: { set1<i32>(cpu, op, conditionOf(cpu, load<u8>(op, O_IMM)) ? get2<i32>(cpu, op) : get1<i32>(cpu, op)); op += 16; continue; }
      case Op.CMOV_RR64: { if (conditionOf(cpu, load<u8>(op, O_IMM))) set1<i64>(cpu, op, get2<i64>(cpu, op)); op += 16; continue; }
      case Op.SETCC_R: { set1<i8>(cpu, op, <i64>conditionOf(cpu, load<u8>(op, O_IMM))); op += 16; continue; }
      case Op.BSWAP_R32: { set1<i32>(cpu, op, <i64>bswap<u32>(load<u32>(cpu + load<u8>(op, O_R1)))); op += 16; continue; }
      case Op.BSWAP_R64: { set1<i64>(cpu, op, bswap<i64>(get1<i64>(cpu, op))); op += 16; continue; }
      case Op.BT_RI64: { changeCarry(cpu, <u32>(get1<i64>(cpu, op) >> load<u8>(op, O_IMM)) & 1); op += 16; continue; }
      case Op.MOVUPS_RM: { readVector(cpu, tlb, tag, op, address(cpu, op), cpu + (<usize>load<u8>(op, O_R1) << 4) + XMM); op += 16; continue; }
      case Op.MOVUPS_MR: { writeVector(cpu, tlb, tag, op, address(cpu, op), cpu + (<usize>load<u8>(op, O_R1) << 4) + XMM); op += 16; continue; }
      default: {
        store<u32>(cpu, <u32>op, CURRENT_OP);
        const r = generic(cpu, op, code);
        if (r == 0) {
          op += 16;
          continue;
        }
        if (r == AGAIN) {
          op = goto(cpu, stop(cpu, op, false));
          continue;
        }
        if (r == GONE) {
          op = goto(cpu, load<u64>(cpu, RIP));
          continue;
        }
        stop(cpu, op, true);
        return r;
      }
    }
  }
}
