/**
 * Writes a region as one WebAssembly function: structured control flow from its dominator tree (Ramsey, Beyond
 * Relooper), registers and flags in locals, and a single exit. Invariant: wherever control may leave, all of the
 * vCPU's state is in memory, or in locals that the exit stores.
 */
import {
  ACCESS_TAG,
  BLOCK_VA,
  BUDGET,
  CURRENT_BLOCK,
  JUMP_CACHE,
  JUMP_ENTRIES,
  JUMP_TAG,
  R_GOTO,
  R_LINK,
  R_PLAIN,
  R_UNDONE,
  TLB,
} from '../core/layout.js';
import { Context, Import, RSP } from './context.js';
import { Emitter, type Label } from './emitter.js';
import { condition, flagsFromMemory, flagsToMemory, storeFlags, UNKNOWN } from './flags.js';
import * as L from './locals.js';
import { loadHost, readHost, storeHost } from './memory.js';
import { moveStack, openPush } from './moves.js';
import { I32, I64, V128, VOID, W } from './opcodes.js';
import { K, type Operation } from './operation.js';
import { type Plan, planOperation } from './operations.js';
import type { ProfileCounters } from './profile.js';
import { conditionOfJump, type Edge, type Node, type Region, type Target } from './region.js';

/** An enclosing node and its label, for jumps to that node. */
type Frame = { readonly node: Node; readonly label: Label };

interface NodePlan {
  readonly plans: readonly Plan[];
  /** For each operation, whether its flags are needed after it. */
  readonly wanted: readonly boolean[];
  /** Whether flags are needed at the start of the block. */
  readonly wantedBefore: boolean;
}

/** Whether the end of a block may be left to the interpreter. */
const leavesAtEnd = (op: Operation): boolean => op.kind !== K.JUMP && op.kind !== K.JUMP_IF;

/** Adds a value to the u64 at a linear address. */
function addTo(e: Emitter, at: number, value: () => void): void {
  e.i32(0);
  e.i32(0);
  e.memory(W.i64_load, at);
  value();
  e.op(W.i64_add);
  e.memory(W.i64_store, at);
}

export class FunctionWriter {
  private readonly c = new Context();
  private readonly whole = new Emitter();
  private frames: Frame[] = [];
  private out: Label = 0;
  private readonly plans = new Map<Node, NodePlan>();
  /** The kinds of flags that are known at the ends of nodes. */
  private readonly kinds = new Map<Node, { kind: number; isLogic: boolean }>();
  private hasSteps = false;
  /**
   * The registers that calls of step() must store before and load after. They are known after the first of two
   * passes.
   */
  private stepWritten = 0xffff;
  private stepUsed = 0xffff;

  constructor(
    private readonly view: DataView,
    private readonly counters: ProfileCounters | undefined,
  ) {}

  /** Returns the function's body including its locals, without its length. It is valid until the next call. */
  write(region: Region, slot = 0): Uint8Array {
    this.plan(region);
    this.stepWritten = 0xffff;
    this.stepUsed = 0xffff;
    this.body(region);
    if (this.hasSteps) {
      this.stepWritten = this.c.written;
      this.stepUsed = this.c.used;
      this.body(region);
    }
    return this.wrap(region, slot);
  }

  private plan(region: Region): void {
    this.plans.clear();
    for (const node of region.nodes.slice().reverse()) {
      const { operations } = node.block;
      const plans: Plan[] = [];
      for (const op of operations) plans.push(planOperation(this.view, op));
      const last = operations[operations.length - 1];
      let wanted = last.kind !== K.JUMP_IF && last.kind !== K.JUMP && last.kind !== K.CALL;
      for (const { edge } of node.targets)
        wanted ||= edge === undefined || edge.checked || this.wantedAt(node, edge.to);
      const after: boolean[] = [];
      after[operations.length - 1] = wanted;
      if (last.kind !== K.JUMP) wanted = true;
      for (let i = operations.length - 2; i >= 0; i--) {
        after[i] = wanted;
        const { leaves, readsFlags, setsFlags } = plans[i].effects;
        wanted = leaves || readsFlags || (wanted && !setsFlags);
      }
      this.plans.set(node, { plans, wanted: after, wantedBefore: wanted });
    }
  }

  private wantedAt(from: Node, to: Node): boolean {
    if (to.order <= from.order || to.isLoop) return true;
    return this.plans.get(to)?.wantedBefore ?? true;
  }

  private body(region: Region): void {
    const { c } = this;
    c.reset();
    this.kinds.clear();
    this.hasSteps = false;
    this.frames = [];
    this.out = c.e.open(W.block, VOID);
    this.tree(region.head);
    c.e.op(W.unreachable);
    c.e.end();
  }

  /** Writes the locals, the loads at the start, the body, and the stores at the end. */
  private wrap(region: Region, slot: number): Uint8Array {
    const { c, whole: e } = this;
    const body = c.e.view();
    e.reset();
    e.u32(3);
    e.u32(L.I32_LOCALS);
    e.op(I32);
    e.u32(L.I64_LOCALS);
    e.op(I64);
    e.u32(L.V128_LOCALS);
    e.op(V128);
    const { head } = region;
    e.get(L.CPU);
    e.memory(W.i32_load, BUDGET);
    e.tee(L.LEFT);
    e.i32(head.longest);
    e.op(W.i32_lt_s);
    e.open(W.if, VOID);
    e.i32(head.block.at | R_PLAIN);
    e.op(W.return);
    e.end();
    this.countEntry(e, slot);
    e.get(L.CPU);
    e.memory(W.i64_load, BLOCK_VA);
    e.set(L.REGION_VA);
    if (c.usesMemory) {
      e.get(L.CPU);
      e.memory(W.i32_load, TLB);
      e.set(L.TLB_BASE);
      e.get(L.CPU);
      e.memory(W.i64_load, ACCESS_TAG);
      e.set(L.TAG);
    }
    if (c.usesJumps) {
      e.get(L.CPU);
      e.memory(W.i64_load32_u, JUMP_TAG);
      e.i64(32);
      e.op(W.i64_shl);
      e.set(L.JUMPS);
    }
    this.moveRegisters(e, c.used, false);
    if (this.plans.get(head)?.wantedBefore !== false || head.isLoop) {
      if (c.readsFlags || c.writesFlags) flagsFromMemory(e);
    }
    if (c.usesStack) {
      e.i64(1);
      e.set(L.STACK_PAGE);
    }
    e.raw(body);
    this.moveRegisters(e, c.written, true);
    if (c.writesFlags) flagsToMemory(e);
    e.get(L.CPU);
    e.get(L.LEFT);
    e.memory(W.i32_store, BUDGET);
    this.countExit(e, slot);
    e.get(L.RESULT);
    e.op(W.end);
    return e.view();
  }

  /** For a profile: counts an entry, and the instructions as if none were left. */
  private countEntry(e: Emitter, slot: number): void {
    if (this.counters === undefined) return;
    const at = this.counters.at(slot);
    addTo(e, at, () => e.i64(1));
    addTo(e, at + 8, () => {
      e.get(L.LEFT);
      e.op(W.i64_extend_i32_s);
    });
  }

  private countExit(e: Emitter, slot: number): void {
    if (this.counters === undefined) return;
    addTo(e, this.counters.at(slot) + 8, () => {
      e.i64(0);
      e.get(L.LEFT);
      e.op(W.i64_extend_i32_s);
      e.op(W.i64_sub);
    });
    e.get(L.RESULT);
    e.i32(15);
    e.op(W.i32_and);
    e.i32(3);
    e.op(W.i32_shl);
    e.tee(L.N1);
    e.get(L.N1);
    e.memory(W.i64_load, this.counters.base);
    e.i64(1);
    e.op(W.i64_add);
    e.memory(W.i64_store, this.counters.base);
  }

  private moveRegisters(e: Emitter, mask: number, stores: boolean): void {
    for (let i = 0; i < 16; i++) {
      if ((mask & (1 << i)) === 0) continue;
      e.get(L.CPU);
      if (stores) {
        e.get(L.REGISTER_0 + i);
        e.memory(W.i64_store, 8 * i);
      } else {
        e.memory(W.i64_load, 8 * i);
        e.set(L.REGISTER_0 + i);
      }
    }
  }

  /** Writes a node and all nodes that it dominates. */
  private tree(node: Node): void {
    const { e } = this.c;
    if (!node.isLoop) {
      this.within(
        node,
        node.children.filter((n) => n.isMerge),
      );
      return;
    }
    this.frames.push({ node, label: e.open(W.loop, VOID) });
    this.within(
      node,
      node.children.filter((n) => n.isMerge),
    );
    this.frames.pop();
    e.end();
  }

  /** Writes the node's code inside one block for each merge node, the last one outermost. */
  private within(node: Node, merges: readonly Node[]): void {
    const { e } = this.c;
    const sorted = merges.slice().sort((a, b) => b.order - a.order);
    for (const merge of sorted) this.frames.push({ node: merge, label: e.open(W.block, VOID) });
    this.block(node);
    for (let i = sorted.length - 1; i >= 0; i--) {
      this.frames.pop();
      e.end();
      this.tree(sorted[i]);
    }
  }

  /** Checks whether the jump cache's entry for the guest address in W1 is that of a block. */
  private checkJump(block: number): void {
    const { c } = this;
    const { e } = c;
    c.usesJumps = true;
    e.get(L.W1);
    e.get(L.W1);
    e.i64(12);
    e.op(W.i64_shr_u);
    e.op(W.i64_xor);
    e.op(W.i32_wrap_i64);
    e.i32(JUMP_ENTRIES - 1);
    e.op(W.i32_and);
    e.i32(4);
    e.op(W.i32_shl);
    e.get(L.CPU);
    e.op(W.i32_add);
    e.tee(L.ENTRY);
    e.memory(W.i64_load, JUMP_CACHE);
    e.get(L.W1);
    e.op(W.i64_eq);
    e.get(L.ENTRY);
    e.memory(W.i64_load, JUMP_CACHE + 8);
    e.get(L.JUMPS);
    e.i64(block);
    e.op(W.i64_or);
    e.op(W.i64_eq);
    e.op(W.i32_and);
  }

  /** Sets BLOCK_VA to the address in W1 and leaves. */
  private leaveTo(result: number): void {
    const { e } = this.c;
    e.get(L.CPU);
    e.get(L.W1);
    e.memory(W.i64_store, BLOCK_VA);
    e.i32(result);
    e.set(L.RESULT);
    e.br(this.out);
  }

  private enter(from: Node, to: Node): void {
    const { e } = this.c;
    this.kinds.set(from, { kind: this.c.kind, isLogic: this.c.isLogic });
    for (let i = this.frames.length - 1; i >= 0; i--) {
      if (this.frames[i].node === to) {
        e.br(this.frames[i].label);
        return;
      }
    }
    this.tree(to);
  }

  private go(from: Node, target: Target): void {
    const { c } = this;
    const { edge } = target;
    if (edge !== undefined && !edge.checked) {
      this.enter(from, edge.to);
      return;
    }
    c.codeAddress(target.delta);
    c.e.set(L.W1);
    if (edge !== undefined) this.goChecked(from, edge);
    this.leaveTo(target.block !== 0 ? target.block | R_LINK : R_GOTO);
  }

  /** Goes to the edge's target, or falls through if the jump cache disagrees. */
  private goChecked(from: Node, edge: Edge): void {
    const { e } = this.c;
    this.checkJump(edge.to.block.at);
    e.open(W.if, VOID);
    const { kind, isLogic } = this.c;
    this.enter(from, edge.to);
    this.c.kind = kind;
    this.c.isLogic = isLogic;
    e.end();
  }

  private block(node: Node): void {
    const { c } = this;
    const { e } = c;
    const { operations, count, at } = node.block;
    const plan = this.plans.get(node) as NodePlan;
    c.delta = node.delta;
    c.vectorsAllowed = false;
    this.startKind(node);
    if (node.isLoop) {
      e.get(L.LEFT);
      e.i32(node.longest);
      e.op(W.i32_lt_s);
      e.open(W.if, VOID);
      c.codeAddress(node.delta);
      e.set(L.W1);
      this.leaveTo(at | R_PLAIN);
      e.end();
    }
    e.get(L.LEFT);
    e.i32(count);
    e.op(W.i32_sub);
    e.set(L.LEFT);
    c.fault = e.open(W.block, VOID);
    const last = operations.length - 1;
    c.mayFault = false;
    for (let i = 0; i <= last; i++) {
      const op = operations[i];
      c.operation = op;
      c.faultResult = i === 0 ? at | R_UNDONE : op.at;
      c.flagsWanted = plan.wanted[i];
      if (i === last) break;
      const { write } = plan.plans[i];
      if (write === undefined) this.step(node, op);
      else write(c, op);
    }
    // Nodes inside this one set it themselves.
    const mayFault = c.mayFault || leavesAtEnd(operations[last]);
    this.terminate(node, operations[last]);
    e.end();
    if (!mayFault) {
      e.op(W.unreachable);
      return;
    }
    c.codeAddress(node.delta);
    e.set(L.W1);
    e.get(L.CPU);
    e.i32(at);
    e.memory(W.i32_store, CURRENT_BLOCK);
    e.get(L.CPU);
    e.get(L.W1);
    e.memory(W.i64_store, BLOCK_VA);
    e.br(this.out);
  }

  /** Sets what is known about the flags at the start of a node. */
  private startKind(node: Node): void {
    const { c } = this;
    c.kind = UNKNOWN;
    c.isLogic = false;
    if (node.isLoop || node.isMerge || node.order === 0) return;
    const known = this.kinds.get(node.dominator);
    if (known === undefined) return;
    c.kind = known.kind;
    c.isLogic = known.isLogic;
  }

  /** Writes a call of the interpreter's function for one operation, with all state in memory. */
  private step(node: Node, op: Operation): void {
    const { c } = this;
    const { e } = c;
    this.hasSteps = true;
    this.moveRegisters(e, this.stepWritten, true);
    storeFlags(c);
    e.get(L.CPU);
    e.get(L.LEFT);
    e.memory(W.i32_store, BUDGET);
    c.codeAddress(node.delta);
    e.set(L.W1);
    e.get(L.CPU);
    e.get(L.W1);
    e.memory(W.i64_store, BLOCK_VA);
    e.get(L.CPU);
    e.i32(node.block.at);
    e.memory(W.i32_store, CURRENT_BLOCK);
    e.get(L.CPU);
    e.i32(op.at);
    e.i32(op.code);
    e.call(Import.step);
    e.set(L.RESULT);
    e.get(L.CPU);
    e.memory(W.i32_load, BUDGET);
    e.set(L.LEFT);
    this.moveRegisters(e, this.stepUsed, false);
    flagsFromMemory(e);
    c.writesFlags = true;
    c.kind = UNKNOWN;
    e.get(L.RESULT);
    e.brIf(this.out);
  }

  private terminate(node: Node, op: Operation): void {
    const { c } = this;
    const { e } = c;
    const { delta } = node;
    switch (op.kind) {
      case K.JUMP:
        this.go(node, node.targets[0]);
        return;
      case K.JUMP_IF: {
        condition(c, conditionOfJump(op));
        const { kind, isLogic } = c;
        e.open(W.if, VOID);
        this.go(node, node.targets[0]);
        c.kind = kind;
        c.isLogic = isLogic;
        e.else();
        this.go(node, node.targets[1]);
        e.end();
        e.op(W.unreachable);
        return;
      }
      case K.CALL:
        openPush(c);
        e.get(L.HOST);
        c.codeAddress(delta + op.imm);
        storeHost(c, 3);
        moveStack(c, -8);
        this.go(node, node.targets[0]);
        return;
      case K.JUMP_REGISTER:
      case K.CALL_REGISTER:
        c.getWide(op.r1);
        e.set(L.W1);
        this.jumpTo(delta, op, op.kind === K.CALL_REGISTER);
        return;
      case K.JUMP_MEMORY:
      case K.CALL_MEMORY:
        c.address(op);
        readHost(c, 8);
        loadHost(c, 3);
        e.set(L.W1);
        this.jumpTo(delta, op, op.kind === K.CALL_MEMORY);
        return;
      case K.RETURN:
        e.get(c.register(RSP));
        readHost(c, 8, true);
        loadHost(c, 3);
        e.set(L.W1);
        this.checkCanonical();
        moveStack(c, 8 + op.imm);
        for (const edge of node.returns) {
          e.get(L.W1);
          c.codeAddress(edge.to.delta);
          e.op(W.i64_eq);
          e.open(W.if, VOID);
          this.goChecked(node, edge);
          e.end();
        }
        this.leaveTo(R_GOTO);
        return;
      default:
        e.i32(c.faultResult);
        e.set(L.RESULT);
        e.br(c.fault);
    }
  }

  /** A non-canonical target is a fault of the branch. */
  private checkCanonical(): void {
    const { e } = this.c;
    e.get(L.W1);
    e.i64(16);
    e.op(W.i64_shl);
    e.i64(16);
    e.op(W.i64_shr_s);
    e.get(L.W1);
    e.op(W.i64_ne);
    this.c.faultIf();
  }

  /** Writes an indirect jump or call to the address in W1. */
  private jumpTo(delta: number, op: Operation, calls: boolean): void {
    const { c } = this;
    const { e } = c;
    this.checkCanonical();
    if (calls) {
      openPush(c);
      e.get(L.HOST);
      c.codeAddress(delta + op.imm);
      storeHost(c, 3);
      moveStack(c, -8);
    }
    this.leaveTo(R_GOTO);
  }
}
