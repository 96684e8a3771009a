/**
 * Decides which blocks are translated together: those that the interpreter reached from the first one by direct
 * jumps, calls and the returns from them. Their graph is made reducible: an edge into the middle of a loop leaves the
 * region.
 */
import { B_HEAT, B_REGION, HEAT_FIRST } from '../core/layout.js';
import { Op } from '../core/ops.js';
import type { Block, Blocks } from './blocks.js';
import { K, type Operation } from './operation.js';

const MOST_BLOCKS = 28;
const MOST_OPERATIONS = 320;

export interface Edge {
  readonly to: Node;
  /** The jump cache must confirm the target, because the jump leaves the page or is a return. */
  readonly checked: boolean;
}

/** The target of a direct jump. */
export interface Target {
  /** Address relative to the region's first instruction. */
  readonly delta: number;
  /** The decoded block there if the jump is linked to it, otherwise 0. */
  readonly block: number;
  edge?: Edge;
}

export interface Node {
  readonly block: Block;
  /** Guest address relative to that of the region's first instruction. */
  readonly delta: number;
  /** The targets of the jump at its end: taken, then not taken. */
  readonly targets: Target[];
  /** The return sites to which a return at its end may go. */
  returns: Edge[];
  /** Position in reverse postorder. */
  order: number;
  dominator: Node;
  /** The nodes that this one immediately dominates, in reverse postorder. */
  children: Node[];
  isLoop: boolean;
  /** More than one forward edge leads here. */
  isMerge: boolean;
  /** The maximum number of instructions from here to the next loop or exit. */
  longest: number;
}

export interface Region {
  readonly va: bigint;
  readonly head: Node;
  /** In reverse postorder. */
  readonly nodes: Node[];
}

const edgesOf = (node: Node): Edge[] => {
  const edges = node.returns.slice();
  for (const { edge } of node.targets) if (edge !== undefined) edges.push(edge);
  return edges;
};

const samePage = (a: number, b: number): boolean => ((a ^ b) & ~4095) === 0;

class Former {
  readonly nodes = new Map<number, Node>();
  private operations = 0;

  constructor(
    private readonly blocks: Blocks,
    private readonly cpu: number,
    private readonly va: bigint,
  ) {}

  /** The node of a block at `delta`. It is made if it does not exist. Undefined: it cannot be part of the region. */
  node(at: number, delta: number, isHead = false): Node | undefined {
    const known = this.nodes.get(at);
    if (known !== undefined) return known.delta === delta ? known : undefined;
    const { view } = this.blocks;
    if (!this.blocks.isLive(at) || (!isHead && !this.isWarm(at)) || this.nodes.size >= MOST_BLOCKS)
      return undefined;
    const block = this.blocks.read(at);
    if (!isHead && block.operations[0].kind === K.STOP) return undefined;
    if (this.operations + block.operations.length > MOST_OPERATIONS && !isHead) return undefined;
    this.operations += block.operations.length;
    const last = block.operations[block.operations.length - 1];
    const target = (offset: number, link: number): Target => ({
      delta: delta + offset,
      block: view.getUint32(last.at + link, true),
    });
    const targets: Target[] = [];
    if (last.kind === K.JUMP_IF) targets.push(target(last.disp, 16), target(last.imm, 20));
    else if (last.kind === K.JUMP || last.kind === K.CALL) targets.push(target(last.disp, 16));
    const node = {
      block,
      delta,
      targets,
      returns: [],
      order: -1,
      children: [],
      isLoop: false,
      isMerge: false,
      longest: 0,
      // Types: the fields that depend on the kind of a node are filled in by its maker.
    } as unknown as Node;
    this.nodes.set(at, node);
    return node;
  }

  private isWarm(at: number): boolean {
    const { view } = this.blocks;
    if (view.getUint32(at + B_REGION, true) !== 0) return true;
    const first = view.getUint32(HEAT_FIRST, true);
    return view.getInt32(at + B_HEAT, true) <= first - (first >> 4);
  }

  follow(node: Node): Node[] {
    const found: Node[] = [];
    for (const target of node.targets) {
      const linked = target.block !== 0;
      const at = linked
        ? target.block
        : this.blocks.at(this.cpu, BigInt.asUintN(64, this.va + BigInt(target.delta)));
      const to = at === 0 ? undefined : this.node(at, target.delta);
      if (to === undefined) continue;
      target.edge = { to, checked: !linked };
      found.push(to);
    }
    return found;
  }

  /** The block after a call into the region, if it is decoded. */
  siteOf(node: Node): Node | undefined {
    const { start, operations } = node.block;
    const call = operations[operations.length - 1];
    if (call.kind !== K.CALL || node.targets[0].edge === undefined || !samePage(start, start + call.imm))
      return undefined;
    const at = this.blocks.find(start + call.imm);
    return at === 0 ? undefined : this.node(at, node.delta + call.imm);
  }
}

const lastOf = (node: Node): Operation => node.block.operations[node.block.operations.length - 1];

/** Gives each return in a callee an edge to the return site of the call in the region. */
function linkReturns(sites: ReadonlyMap<Node, Node>): void {
  for (const [call, site] of sites) {
    const entry = call.targets[0].edge?.to;
    if (entry === undefined) continue;
    const seen = new Set<Node>();
    const work = [entry];
    for (let node = work.pop(); node !== undefined; node = work.pop()) {
      if (seen.has(node)) continue;
      seen.add(node);
      const last = lastOf(node);
      if (last.kind === K.RETURN) {
        if (node.returns.length < 4 && !node.returns.some((e) => e.to === site))
          node.returns.push({ to: site, checked: true });
      } else if (last.kind === K.CALL) {
        const inner = sites.get(node);
        if (inner !== undefined) work.push(inner);
      } else for (const { edge } of node.targets) if (edge !== undefined) work.push(edge.to);
    }
  }
}

/** Numbers the reachable nodes in reverse postorder. */
function order(head: Node): Node[] {
  const post: Node[] = [];
  const seen = new Set<Node>([head]);
  const visit = (node: Node): void => {
    for (const { to } of edgesOf(node)) {
      if (seen.has(to)) continue;
      seen.add(to);
      visit(to);
    }
    post.push(node);
  };
  visit(head);
  post.reverse();
  post.forEach((node, i) => void (node.order = i));
  return post;
}

/** Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm. */
function dominate(nodes: readonly Node[]): void {
  const [head] = nodes;
  const before = new Map<Node, Node[]>(nodes.map((n) => [n, []]));
  for (const node of nodes) for (const { to } of edgesOf(node)) before.get(to)?.push(node);
  const idom = new Map<Node, Node>([[head, head]]);
  const meet = (a: Node, b: Node): Node => {
    let x = a;
    let y = b;
    while (x !== y) {
      while (x.order > y.order) x = idom.get(x) as Node;
      while (y.order > x.order) y = idom.get(y) as Node;
    }
    return x;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const node of nodes.slice(1)) {
      let best: Node | undefined;
      for (const p of before.get(node) as Node[]) {
        if (idom.has(p)) best = best === undefined ? p : meet(p, best);
      }
      if (best !== undefined && idom.get(node) !== best) {
        idom.set(node, best);
        changed = true;
      }
    }
  }
  for (const node of nodes) {
    node.dominator = idom.get(node) as Node;
    node.children = [];
  }
  for (const node of nodes.slice(1)) node.dominator.children.push(node);
}

const dominates = (a: Node, b: Node): boolean => {
  let node = b;
  while (node.order > a.order) node = node.dominator;
  return node === a;
};

/** Removes the edges that enter a loop at a node other than its head. Returns whether there were any. */
function makeReducible(nodes: readonly Node[]): boolean {
  let changed = false;
  const bad = (from: Node, edge: Edge | undefined): boolean =>
    edge !== undefined && edge.to.order <= from.order && !dominates(edge.to, from);
  for (const node of nodes) {
    for (const target of node.targets) {
      if (bad(node, target.edge)) {
        target.edge = undefined;
        changed = true;
      }
    }
    const kept = node.returns.filter((e) => !bad(node, e));
    if (kept.length < node.returns.length) {
      node.returns = kept;
      changed = true;
    }
  }
  return changed;
}

function describe(nodes: readonly Node[]): void {
  const forward = new Map<Node, number>();
  for (const node of nodes) {
    for (const { to } of edgesOf(node)) {
      if (to.order <= node.order) to.isLoop = true;
      else forward.set(to, (forward.get(to) ?? 0) + 1);
    }
  }
  for (const node of nodes) node.isMerge = (forward.get(node) ?? 0) > 1;
  for (const node of nodes.slice().reverse()) {
    let most = 0;
    for (const { to } of edgesOf(node)) {
      if (to.order > node.order && !to.isLoop) most = Math.max(most, to.longest);
    }
    node.longest = node.block.count + most;
  }
}

/** Forms the region that starts with a block whose guest address is `va`. Undefined: no region can be formed. */
export function formRegion(blocks: Blocks, cpu: number, at: number, va: bigint): Region | undefined {
  const former = new Former(blocks, cpu, va);
  const head = former.node(at, 0, true);
  if (head === undefined) return undefined;
  const sites = new Map<Node, Node>();
  const queue = [head];
  const seen = new Set<Node>(queue);
  for (let i = 0; i < queue.length; i++) {
    const found = former.follow(queue[i]);
    const site = former.siteOf(queue[i]);
    if (site !== undefined) {
      sites.set(queue[i], site);
      found.push(site);
    }
    for (const node of found) {
      if (seen.has(node)) continue;
      seen.add(node);
      queue.push(node);
    }
  }
  linkReturns(sites);
  let nodes: Node[];
  do {
    nodes = order(head);
    dominate(nodes);
  } while (makeReducible(nodes));
  describe(nodes);
  return { va, head, nodes };
}

/** The condition code of a conditional jump. */
export const conditionOfJump = (op: Operation): number => op.code - Op.JO;
