/**
 * What the guest runs on: RAM, page tables, vCPUs, one engine. One shared WebAssembly memory holds all of it:
 *
 *     0x10000   vCPU states, 4 KiB each
 *     0x20000   TLBs, 64 KiB a vCPU (kernel half, user half)
 *     0xa0000   jump caches, 64 KiB a vCPU
 *     0x120000  decoded blocks by physical address
 *     0x1f0000  page-table entries of the L4 slots that belong to Xen
 *     0x200000  a dirty byte and a code byte for each frame
 *     then      decoded code, then the machine frames, from MFN_BASE on
 *
 * Invariant: the guest's instructions reach nothing but the frames. Between two calls of run() a vCPU's state is
 * exact: it stands between two instructions, or before the one that faulted.
 */
import { Decoder, type Instruction } from 'iced-x86';
import { block, list, struct, u32 } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../records/record.js';
import { LinearMemory } from '../xen/memory.js';
import { type CpuidTable, lookupCpuid } from './cpuid.js';
import { BLOCK_HEADER, BlockDecoder, OP_BYTES } from './decode.js';
import type { FpOperation } from './decode-fp.js';
import { coreWasmBase64 } from './generated/core-wasm.js';
import { CPU_BASE, CPU_BYTES, Cpu, META_BASE, MFN_BASE, PAGE, XEN_SLOTS } from './layout.js';
import { Vcpu } from './vcpu.js';

export { MFN_BASE, PAGE, Vcpu };

export interface MachineConfig {
  /** Machine frames, those of Xen included; up to about 3 GiB. */
  readonly frames: number;
  /** 1 to 8. */
  readonly vcpus: number;
  readonly cpuid: CpuidTable;
  /** Virtual time in ns, for rdtsc. */
  now(): number;
  /** Room for decoded code; 32 MiB by default. */
  readonly codeCacheBytes?: number;
}

/** Why run() returned. */
export enum Exit {
  budget = 0,
  /** `syscall`; rip is after it. */
  syscall = 1,
  /** See exitVector, exitErrorCode, exitCr2. */
  exception = 2,
  /** An instruction that is #GP at CPL 3: to be emulated or reflected. */
  privileged = 3,
  /** Segment loads, far transfers and the like: needs descriptor tables. */
  descriptor = 4,
  /** `ud2` followed by "xen". */
  forcedEmulation = 5,
  /** requestExit() was called. */
  halted = 6,
}

const DB = 1;
const UD = 6;
/** TF in rflags, BS in DR6: single step. */
const TRAP_FLAG = 0x100;
const DR6_BS = 0x4000;
const XEN_SIGNATURE = [0x78, 0x65, 0x6e];

interface Core {
  init(meta: number, frames: number, count: number, xenSlots: number): void;
  run(vcpu: number, budget: number): number;
  translate(vcpu: number, va: number, intent: number): number;
  flush(vcpu: number): void;
  invlpg(vcpu: number, va: number): void;
  markWrite(linear: number): void;
  materialise(vcpu: number): void;
  codeGone(): void;
}

export const vcpuRecord = recordType('VCPS', 1, 'the machine state of all vCPUs', {
  vcpus: [
    list(
      struct({
        state: [block(Cpu.end), 'registers, flags, modes, x87 and SSE, at the offsets of layout.ts'],
        reserved: [u32, '0'],
      }),
    ),
    'in the order of their numbers',
  ],
});

let compiled: WebAssembly.Module | undefined;

export class Machine {
  readonly mem: LinearMemory;
  readonly vcpus: readonly Vcpu[];
  readonly xenSlots = XEN_SLOTS;
  readonly frames: number;
  private readonly decoder = new BlockDecoder((fp) => this.descriptor(fp));
  private readonly descriptors = new Map<string, number>();
  private blocks = new Map<number, Map<number, number>>();
  private arenaNext: number;
  private decoding = 0;
  private readonly staging = new DataView(new ArrayBuffer(64 * OP_BYTES));
  private logging = false;

  private constructor(
    private readonly config: MachineConfig,
    readonly memory: WebAssembly.Memory,
    private readonly core: Core,
    private readonly arena: number,
    private readonly arenaEnd: number,
    readonly framesBase: number,
  ) {
    this.frames = config.frames;
    this.mem = new LinearMemory(memory.buffer);
    this.arenaNext = arena;
    const flags = {
      get: (vcpu: number): number => {
        core.materialise(vcpu);
        return this.mem.getU32(CPU_BASE + vcpu * CPU_BYTES + Cpu.ccResult);
      },
      set: (vcpu: number, arithmetic: number): void => {
        const cpu = CPU_BASE + vcpu * CPU_BYTES;
        this.mem.setU32(cpu + Cpu.ccKind, 3);
        this.mem.setU64(cpu + Cpu.ccResult, arithmetic);
      },
    };
    this.vcpus = Array.from({ length: config.vcpus }, (_, i) => new Vcpu(i, this.mem, flags));
    for (const v of this.vcpus) {
      flags.set(v.id, 0);
      this.mem.setU16(v.gprs + Cpu.fcw, 0x37f);
      this.mem.setU32(v.gprs + Cpu.mxcsr, 0x1f80);
      this.mem.setU32(v.gprs + Cpu.generation, 1);
      this.mem.setU32(v.gprs + Cpu.generation + 4, 1);
    }
  }

  static async create(config: MachineConfig): Promise<Machine> {
    const tables = ((config.frames + 15) & ~15) * 2;
    const arena = (META_BASE + tables + 4095) & ~4095;
    const arenaEnd = arena + (config.codeCacheBytes ?? 32 << 20);
    const framesBase = (arenaEnd + 0xffff) & ~0xffff;
    const pages = Math.ceil((framesBase + config.frames * PAGE) / 65_536);
    if (pages > 65_536) throw new RangeError(`${config.frames} frames do not fit the machine's 4 GiB`);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    compiled ??= await WebAssembly.compile(Uint8Array.from(atob(coreWasmBase64), (c) => c.charCodeAt(0)));
    let machine: Machine | undefined;
    const instance = await WebAssembly.instantiate(compiled, {
      env: {
        memory,
        abort: () => {
          throw new Error('the engine failed');
        },
        now: () => config.now(),
        decode: (linear: number, va: bigint) => (machine as Machine).decodeBlock(linear >>> 0, va),
        dropped: (frame: number) => (machine as Machine).blocks.delete(frame),
      },
    });
    const core = instance.exports as unknown as Core;
    core.init(META_BASE, framesBase, config.frames, XEN_SLOTS);
    machine = new Machine(config, memory, core, arena, arenaEnd, framesBase);
    return machine;
  }

  /** Executes at most `budget` instructions; a faulting instruction does not count. */
  run(vcpu: number, budget: number): Exit {
    const v = this.vcpus[vcpu];
    this.decoding = vcpu;
    const end = v.retired + budget;
    this.mem.setU32(v.gprs + Cpu.exitSoftware, 0);
    for (;;) {
      const stepping = (this.mem.getU32(v.gprs + Cpu.otherFlags) & TRAP_FLAG) !== 0;
      const before = v.retired;
      const reason = this.core.run(vcpu, stepping ? Math.min(1, end - before) : end - before);
      if (stepping && reason === Exit.budget && v.retired > before) {
        this.mem.setU32(v.gprs + Cpu.exitVector, DB);
        this.mem.setU32(v.gprs + Cpu.exitErrorCode, 0);
        v.setDr(6, v.dr(6) | DR6_BS);
        return Exit.exception;
      }
      if (
        reason === Exit.budget &&
        v.retired < end &&
        (this.mem.getU32(v.gprs + Cpu.otherFlags) & TRAP_FLAG) !== 0
      )
        continue;
      if (reason === 7) {
        this.cpuid(v);
        continue;
      }
      if (reason === Exit.forcedEmulation && !this.hasSignature(vcpu, v.rip + 2)) {
        this.mem.setU32(v.gprs + Cpu.exitVector, UD);
        this.mem.setU32(v.gprs + Cpu.exitErrorCode, 0);
        return Exit.exception;
      }
      return reason;
    }
  }

  /** Linear address of a guest address, or -1 with the vCPU's fault fields set. See the intents above. */
  translate(vcpu: number, va: number, intent: number): number {
    const linear = this.core.translate(vcpu, va, intent);
    return linear === -1 ? -1 : linear >>> 0;
  }

  /** Linear address of a machine frame, -1 if there is none. */
  frameAddress(mfn: number): number {
    const frame = mfn - MFN_BASE;
    return frame >= 0 && frame < this.frames ? this.framesBase + frame * PAGE : -1;
  }

  /** Host code writes into the frame at this address: dirty log, decoded code. */
  touch(linear: number): void {
    this.core.markWrite(linear);
  }

  flushTlb(vcpu: number): void {
    this.core.flush(vcpu);
  }
  flushTlbAll(): void {
    for (const v of this.vcpus) this.core.flush(v.id);
  }
  invlpg(vcpu: number, va: number): void {
    this.core.invlpg(vcpu, va);
  }
  invlpgAll(va: number): void {
    for (const v of this.vcpus) this.core.invlpg(v.id, va);
  }

  startDirtyLog(): void {
    this.mem.bytes(META_BASE, this.frames).fill(0);
    this.flushTlbAll();
    this.logging = true;
  }
  /** ORs the frames written since the last call into `into`, one bit a frame, and forgets them; how many. */
  readDirty(into: Uint8Array): number {
    if (!this.logging) throw new Error('the dirty log is not running');
    const dirty = this.mem.bytes(META_BASE, this.frames);
    const words = new Uint32Array(this.mem.buffer, META_BASE, this.frames >> 2);
    let count = 0;
    const take = (frame: number): void => {
      if (dirty[frame] === 0) return;
      dirty[frame] = 0;
      into[frame >> 3] |= 1 << (frame & 7);
      count++;
    };
    for (let w = 0; w < words.length; w++) {
      if (words[w] !== 0) for (let i = 0; i < 4; i++) take(4 * w + i);
    }
    for (let frame = words.length * 4; frame < this.frames; frame++) take(frame);
    this.flushTlbAll();
    return count;
  }
  stopDirtyLog(): void {
    this.logging = false;
  }

  /** run() returns as soon as it can. */
  requestExit(): void {
    for (const v of this.vcpus) this.mem.setU32(v.gprs + Cpu.requestExit, 1);
  }

  /** The instruction at `rip`, for emulation; null if it cannot be fetched (fault fields). The caller frees it. */
  decodeAt(vcpu: number, rip: number): Instruction | null {
    const at = this.translate(vcpu, rip, 2);
    if (at === -1) return null;
    const room = PAGE - (at & 4095);
    const bytes = new Uint8Array(15);
    bytes.set(this.mem.bytes(at, Math.min(room, 15)));
    let length = Math.min(room, 15);
    if (room < 15) {
      const next = this.translate(vcpu, rip + room, 2);
      if (next !== -1) {
        bytes.set(this.mem.bytes(next, 15 - room), room);
        length = 15;
      }
    }
    const decoder = new Decoder(64, bytes.subarray(0, length), 0);
    decoder.ip = BigInt.asUintN(64, BigInt(rip));
    const instruction = decoder.decode();
    decoder.free();
    return instruction;
  }

  save(): Uint8Array {
    return encodeRecord(vcpuRecord, {
      vcpus: this.vcpus.map((v) => ({ state: this.mem.bytes(v.gprs, Cpu.end).slice(), reserved: 0 })),
    });
  }

  restore(bytes: Uint8Array): void {
    const { vcpus } = decodeRecord(vcpuRecord, decodeRaw(bytes));
    if (vcpus.length !== this.vcpus.length)
      throw new Error(`${this.vcpus.length} vCPUs expected, found ${vcpus.length}`);
    vcpus.forEach((saved, i) => {
      const { gprs } = this.vcpus[i];
      const generation = this.mem.bytes(gprs + Cpu.generation, 8).slice();
      this.mem.u8.set(saved.state, gprs);
      this.mem.u8.set(generation, gprs + Cpu.generation);
    });
    this.dropAllCode();
    this.flushTlbAll();
  }

  private cpuid(v: Vcpu): void {
    const e =
      lookupCpuid(this.config.cpuid, v.reg(0) & 0xffffffff, v.reg(1) & 0xffffffff) ??
      lookupCpuid(this.config.cpuid, (v.reg(0) & 0xffffffff) >>> 0, (v.reg(1) & 0xffffffff) >>> 0);
    v.setReg(0, e?.eax ?? 0);
    v.setReg(3, e?.ebx ?? 0);
    v.setReg(1, e?.ecx ?? 0);
    v.setReg(2, e?.edx ?? 0);
  }

  private hasSignature(vcpu: number, va: number): boolean {
    return XEN_SIGNATURE.every((byte, i) => {
      const at = this.translate(vcpu, va + i, 0);
      return at !== -1 && this.mem.getU8(at) === byte;
    });
  }

  private dropAllCode(): void {
    this.blocks.clear();
    this.descriptors.clear();
    this.arenaNext = this.arena;
    const codeBytes = META_BASE + ((this.frames + 15) & ~15);
    this.mem.bytes(codeBytes, this.frames).fill(0);
    this.core.codeGone();
    this.flushTlbAll();
  }

  /** 16 bytes: u16 operation, u16 bytes loaded, u16 stored, u16 source, i32 immediate, u8 dst, 0, u8 bits, u8 unit. */
  private descriptor(fp: FpOperation): number {
    const { form } = fp;
    const bits = (form.align16 ? 1 : 0) | (form.flags ? 2 : 0) | (form.implicitDi ? 4 : 0);
    const unit = (form.unit === 'x87' ? 0 : form.unit === 'mmx' ? 1 : 2) | (form.wait ? 0x80 : 0);
    const key = [fp.op, form.loadSize, form.storeSize, fp.src, fp.imm, fp.dst, bits, unit].join();
    let at = this.descriptors.get(key);
    if (at === undefined) {
      at = this.arenaNext;
      this.arenaNext += 16;
      const { mem } = this;
      mem.setU16(at, fp.op);
      mem.setU16(at + 2, form.loadSize);
      mem.setU16(at + 4, form.storeSize);
      mem.setU16(at + 6, fp.src);
      mem.setU32(at + 8, fp.imm);
      mem.setU8(at + 12, fp.dst);
      mem.setU8(at + 14, bits);
      mem.setU8(at + 15, unit);
      this.descriptors.set(key, at);
    }
    return at;
  }

  /** Called by the engine: the block at this linear address, or 0 if its first instruction cannot be fetched. */
  private decodeBlock(linear: number, va: bigint): number {
    const frame = (linear - this.framesBase) >>> 12;
    const offset = linear & 4095;
    const known = this.blocks.get(frame)?.get(offset);
    if (known !== undefined) return known;
    if (this.arenaNext + BLOCK_HEADER + 128 * OP_BYTES > this.arenaEnd) this.dropAllCode();
    const room = PAGE - offset;
    const result = this.decoder.decode(
      {
        bytes: this.mem.bytes(linear, Math.min(room, 256)).slice(),
        beyond: () => {
          if (room > 15) return undefined;
          const next = this.translate(this.decoding, Number(BigInt.asIntN(64, va)) + room, 2);
          if (next === -1) return undefined;
          this.mem.setU8(META_BASE + ((this.frames + 15) & ~15) + ((next - this.framesBase) >>> 12), 1);
          return this.mem.bytes(next, 16).slice();
        },
      },
      va,
      this.staging,
      0,
    );
    if (result === undefined) return 0;
    const at = this.arenaNext;
    this.mem.setU32(at, result.count);
    this.mem.setU32(at + 4, result.crossing ? 1 : 0);
    this.mem.u8.set(new Uint8Array(this.staging.buffer, 0, result.count * OP_BYTES), at + BLOCK_HEADER);
    this.arenaNext += BLOCK_HEADER + result.count * OP_BYTES;
    if (!result.crossing) {
      let ofFrame = this.blocks.get(frame);
      if (ofFrame === undefined) {
        ofFrame = new Map();
        this.blocks.set(frame, ofFrame);
      }
      ofFrame.set(offset, at);
    }
    return at;
  }
}
