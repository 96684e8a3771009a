/**
 * A small machine to test what every engine must do: one address space of 4 KiB pages for the guest's kernel and its
 * user mode, which differ in one page, and a program in it. It uses src/engine/engine.ts and nothing behind it.
 */
import { assemble } from '../../../src/asm/assembler.js';
import {
  type CpuEngine,
  type CreateEngine,
  type EngineVcpu,
  Exit,
  FrameMap,
  PAGE,
} from '../../../src/engine/engine.js';

export const FRAMES = 64;
export const CODE = 0x40_0000;
/** An address for tests, at which nothing is mapped. */
export const PLACE = 0x50_0000;
/** A page that only the kernel's tables map, and another that only user mode's tables map, are here. */
export const OWN = 0x80_0000_0000;

/** Bits of page-table entries (SDM volume 3, 4.5). */
export const P = 0x1n;
export const RW = 0x2n;
export const US = 0x4n;
export const ACCESSED = 0x20n;
export const DIRTY = 0x40n;
export const NX = 1n << 63n;
/** Entries have the user bit, as on Xen: the two top tables keep kernel and user mode apart. */
export const READ_WRITE = P | RW | US | NX;
export const READ_ONLY = P | US | NX;
export const EXECUTE = P | US;

/** Bits of a page fault's error code. The hypervisor sets the user bit: a guest's kernel does not run at level 0. */
export const PF_PRESENT = 1;
export const PF_WRITE = 2;
const PF_USER = 4;
export const PF_FETCH = 16;

export const CPUID = [
  { leaf: 0, subleaf: 0, eax: 1, ebx: 0x756e_6547, ecx: 0x6c65_746e, edx: 0x4965_6e69 },
  { leaf: 1, subleaf: 0, eax: 0x6f1, ebx: 0x800, ecx: 0x2000, edx: 0x0788_8931 },
];

const SHIFTS = [0, 12, 21, 30, 39];
/** As in Debian's kernels; any selector of ring 3 would do. */
const CS = 0xe033;
const SS = 0xe02b;

export interface RigOptions {
  readonly vcpus?: number;
  /** The source of virtual time, ns; by default the host's time. */
  readonly now?: () => number;
}

/** How a program ended. */
export interface End {
  readonly exit: Exit;
  /** The last label at or before rip, and the distance of rip from it. */
  readonly at: string;
  readonly vector?: number;
  /** The error code without the user bit. */
  readonly error?: number;
  readonly cr2?: number;
}

const realNow = (): number => Math.floor(performance.now() * 1e6);

export class Rig {
  private next = 0;
  private labels = new Map<string, number>();
  readonly kernelRoot: number;
  readonly userRoot: number;

  private constructor(
    readonly engine: CpuEngine,
    readonly now: () => number,
  ) {
    this.kernelRoot = this.takeTable(4);
    this.userRoot = this.takeTable(4);
  }

  static async open(create: CreateEngine, options: RigOptions = {}): Promise<Rig> {
    const { vcpus = 1, now = realNow } = options;
    const engine = await create({ map: FrameMap.whole(FRAMES), vcpus, cpuid: CPUID, now });
    const rig = new Rig(engine, now);
    // Below slot 1 of the top table, both modes have the same mappings.
    rig.entry(rig.kernelRoot, CODE);
    rig.set(rig.slot(rig.userRoot, CODE, 4), rig.mem.getBig(rig.slot(rig.kernelRoot, CODE, 4)), 4);
    for (const cpu of engine.vcpus) {
      cpu.cs = CS;
      cpu.ss = SS;
      cpu.rflags = 0x202;
      cpu.userMode = false;
    }
    return rig;
  }

  get mem() {
    return this.engine.ram.mem;
  }
  get cpu(): EngineVcpu {
    return this.engine.vcpus[0];
  }

  /** Returns the index of a new zeroed frame. */
  take(): number {
    const frame = this.next++;
    if (frame >= FRAMES) throw new RangeError(`all ${FRAMES} frames are taken`);
    this.engine.ram.bytes(frame, 1).fill(0);
    return frame;
  }

  /** Returns a new page table. */
  takeTable(level: number): number {
    const frame = this.take();
    this.engine.tables.typed(frame, level);
    return frame;
  }

  /** Sets the page-table entry at a linear address. */
  set(at: number, value: bigint, level = 1): void {
    const [lo, hi] = [value & 0xffff_ffffn, value >> 32n].map(Number);
    this.engine.tables.setEntry(this.engine.ram.frameAt(at), (at % PAGE) / 8, level, lo, hi);
  }

  linearOf(frame: number): number {
    return this.engine.ram.linearOf(frame);
  }
  mfnBits(frame: number): bigint {
    return BigInt(this.engine.ram.mfnOf(frame)) << 12n;
  }

  slot(table: number, va: number, level: number): number {
    return this.linearOf(table) + 8 * Number((BigInt(va) >> BigInt(SHIFTS[level])) & 511n);
  }

  /** Returns the linear address of the entry for `va` at a level; missing tables are added. */
  entry(root: number, va: number, to = 1): number {
    let table = root;
    for (let level = 4; level > to; level--) {
      const at = this.slot(table, va, level);
      if ((this.mem.getBig(at) & P) === 0n)
        this.set(at, this.mfnBits(this.takeTable(level - 1)) | P | RW | US | ACCESSED, level);
      table = this.engine.ram.frameOf(Number((this.mem.getBig(at) >> 12n) & 0xff_ffff_ffffn));
    }
    return this.slot(table, va, to);
  }

  /** Maps `va`, below OWN for both modes. Returns the linear address of the entry. The caller flushes. */
  map(va: number, frame: number, bits: bigint, root = this.kernelRoot): number {
    const at = this.entry(root, va);
    this.set(at, this.mfnBits(frame) | bits);
    return at;
  }

  /** Maps a new frame. Returns its index. */
  mapNew(va: number, bits = READ_WRITE, root = this.kernelRoot): number {
    const frame = this.take();
    this.map(va, frame, bits, root);
    return frame;
  }

  /**
   * Puts a program at CODE, followed by a data page with the label `data`; loads the top tables, and sets rip of all
   * vCPUs to CODE.
   */
  program(source: string): void {
    const { bytes, labels } = assemble(`${source}\nalign 4096\ndata: zero 4096`, BigInt(CODE));
    this.labels = new Map([...labels].map(([name, address]) => [name, Number(address)]));
    const data = this.at('data');
    for (let at = 0; at < bytes.length; at += PAGE) {
      const frame = this.mapNew(CODE + at, CODE + at < data ? EXECUTE : READ_WRITE);
      this.engine.ram.bytes(frame, 1).set(bytes.subarray(at, at + PAGE));
    }
    for (const cpu of this.engine.vcpus) {
      cpu.rip = CODE;
      this.engine.tables.loadRoot(cpu.id, false, this.engine.ram.mfnOf(this.kernelRoot));
      this.engine.tables.loadRoot(cpu.id, true, this.engine.ram.mfnOf(this.userRoot));
    }
  }

  at(label: string): number {
    const at = this.labels.get(label);
    if (at === undefined) throw new RangeError(`no label ${label}`);
    return at;
  }

  /** Returns the linear address of a byte in the data page. */
  data(offset = 0): number {
    const frame = this.engine.ram.frameOf(
      Number((this.mem.getBig(this.entry(this.kernelRoot, this.at('data'))) >> 12n) & 0xff_ffff_ffffn),
    );
    return this.linearOf(frame) + offset;
  }

  /** A slice that is long enough for every program here, and no longer than a test may take. */
  slice(vcpu = 0): void {
    const now = this.now();
    this.engine.slice(vcpu, Number.POSITIVE_INFINITY, now, now + 5e9);
  }

  /** Runs to the next exit. */
  run(vcpu = 0): End {
    this.slice(vcpu);
    return this.ended(this.engine.run(vcpu), vcpu);
  }

  ended(exit: Exit, vcpu = 0): End {
    const cpu = this.engine.vcpus[vcpu];
    let at = '';
    let distance = Number.POSITIVE_INFINITY;
    for (const [name, address] of this.labels) {
      const behind = cpu.rip - address;
      if (behind < 0 || behind >= distance) continue;
      distance = behind;
      at = behind === 0 ? name : `${name}+${behind}`;
    }
    if (exit !== Exit.exception) return { exit, at };
    const { exitVector: vector, exitErrorCode } = cpu;
    const error = exitErrorCode & ~PF_USER;
    return vector === 14 ? { exit, at, vector, error, cr2: cpu.exitCr2 } : { exit, at, vector, error };
  }
}

/** How programs end: `syscall` at the label `end` exits with rip after it. */
export const DONE: End = { exit: Exit.syscall, at: 'end+2' };
