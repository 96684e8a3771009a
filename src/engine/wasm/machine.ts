/**
 * The machine of a guest: RAM, page tables, vCPUs and one engine. One shared WebAssembly memory of fixed size holds
 * all of it; core/layout.ts defines where.
 *
 * Invariant: the guest's instructions reach nothing but the guest's frames. Between two calls of run() a vCPU's state
 * is exact: it stands between two instructions, or before the one that faulted.
 */
import { decodeBase64 } from '../../records/base64.js';
import { LinearMemory } from '../../xen/memory.js';
import { breakpointsOn, instructionHits } from '../breakpoints.js';
import { type CpuidTable, lookupCpuid } from '../cpuid.js';
import { type Abilities, type CpuEngine, type EngineConfig, Exit, MAX_VCPUS, PAGE } from '../engine.js';
import { LinearRam } from '../ram.js';
import { checkVcpuStates, type VcpuState } from '../vcpu-state.js';
import { ARENA, CODE_KIND, KIND_CHECKED, KIND_LONG, VCPU_BASE, VCPU_STRIDE } from './core/layout.js';
import { BlockDecoder } from './decode/decode.js';
import { WasmDirtyLog } from './dirty-log.js';
import { coreWasmBase64 } from './generated/core-wasm.js';
import { type TablesCore, WasmTables } from './tables.js';
import type { FullProfile, Profile } from './translate/profile.js';
import { PROFILE_BYTES, type Tier, Translator } from './translate/translator.js';
import { Vcpu } from './vcpu.js';
import { restoreVcpu, saveVcpu } from './vcpu-state.js';
import { endWatch, watch } from './watch.js';

export { type FullProfile, type Tier, Vcpu };

/** Options that change nothing that a guest can observe. */
export interface WasmOptions {
  /** Size of the cache of decoded code, bytes; 32 MiB by default. */
  readonly codeCacheBytes?: number;
  /** `normal` by default. It only changes how fast instructions are executed. */
  readonly tier?: Tier;
  /**
   * The normal tier waits for the compiler. Otherwise it interprets until the event loop delivers the compiled code.
   * This is for callers that do not return to the event loop between runs.
   */
  readonly compilesAtOnce?: boolean;
  /** If given, profile() has results. A clock in milliseconds. */
  readonly profile?: () => number;
  /**
   * Called with the machine's memory before anything is written to it, so that the caller can advise the operating
   * system, for example to use huge pages.
   */
  readonly advise?: (memory: ArrayBufferLike) => void;
}

const DB = 1;
const UD = 6;
/** BS in DR6: single step. */
const DR6_BS = 0x4000;
/** An exit that only the core uses: TF or AC has changed. */
const RECHECK = 7;
/**
 * Added to the exit number in the exit vector if an instruction was abandoned by a throw for an exit other than an
 * exception.
 */
const LEAVING = 0x100;
/** Most instructions that the core is given at a time: its counter has 32 bits. */
const MOST = 2 ** 30;
const XEN_SIGNATURE = [0x78, 0x65, 0x6e];
const DEFAULT_CODE_CACHE = 32 << 20;
const WASM_PAGE = 65_536;
/**
 * Limits of a slice that ends by time, in instructions; and the rate that is assumed before it is measured, in
 * instructions per nanosecond.
 */
const MIN_BUDGET = 1_000;
const MAX_BUDGET = 2_000_000;
const FIRST_RATE = 0.1;
/** Shorter slices are not used to measure the rate, ns. */
const MEASURED_NS = 50_000;

interface Core extends TablesCore {
  init(
    frames: number,
    count: number,
    firstMfn: number,
    masks: number,
    blocks: number,
    dirty: number,
    end: number,
    vcpus: number,
  ): void;
  run(cpu: number, budget: number): number;
  unwind(cpu: number): void;
  endRun(cpu: number): void;
  translate(cpu: number, va: number, intent: number): number;
  codePage(cpu: number, va: bigint): number;
  touch(linear: number): void;
  flushWrites(): void;
  prepareBlock(at: number): void;
  dropAll(): void;
  readFlags(cpu: number): number;
  writeFlags(cpu: number, bits: number): void;
  fninit(cpu: number): void;
}

/** Thrown through the core by an instruction that cannot complete. */
const thrown = Symbol('left');
let compiled: WebAssembly.Module | undefined;

/** Compiles the core for all machines of this process, with V8's settings at this moment; only once. */
export function compileCore(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(decodeBase64(coreWasmBase64));
  return compiled;
}

export class Machine implements CpuEngine {
  readonly mem: LinearMemory;
  readonly vcpus: readonly Vcpu[];
  readonly ram: LinearRam;
  readonly tables: WasmTables;
  readonly dirty: WasmDirtyLog;
  readonly abilities: Abilities = {
    exactCounts: true,
    rdtsc: 'asked',
    parallelVcpus: false,
    warmUp: this,
  };
  /** Code was decoded for a guest that has not arrived. */
  private prepared = false;
  /** The vCPUs for which requestExit() was called, one bit each. */
  private exitsRequested = 0;
  /** The recently measured rate, in instructions per ns. */
  private rate = FIRST_RATE;
  private running: Vcpu | undefined;

  private constructor(
    private readonly config: EngineConfig,
    readonly memory: WebAssembly.Memory,
    private readonly core: Core,
    private readonly translator: Translator,
    framesBase: number,
    dirty: number,
  ) {
    this.mem = new LinearMemory(memory.buffer);
    this.ram = new LinearRam(this.mem, config.map, framesBase);
    const flags = {
      get: (vcpu: number): number => core.readFlags(VCPU_BASE + vcpu * VCPU_STRIDE),
      set: (vcpu: number, arithmetic: number): void =>
        core.writeFlags(VCPU_BASE + vcpu * VCPU_STRIDE, arithmetic),
    };
    this.vcpus = Array.from({ length: config.vcpus }, (_, i) => new Vcpu(i, this.mem, flags));
    for (const v of this.vcpus) core.fninit(v.gprs);
    this.tables = new WasmTables(core, this.ram, this.vcpus);
    this.dirty = new WasmDirtyLog(() => core.flushWrites(), this.ram, dirty);
  }

  static async create(config: EngineConfig, options: WasmOptions = {}): Promise<Machine> {
    const { map, vcpus } = config;
    const { frames } = map;
    if (map.runs.length !== 1) throw new RangeError('the engine takes no memory with gaps');
    const { codeCacheBytes = DEFAULT_CODE_CACHE, tier = 'normal', compilesAtOnce = false, profile } = options;
    if (vcpus < 1 || vcpus > MAX_VCPUS) throw new RangeError(`1 to ${MAX_VCPUS} vCPUs, not ${vcpus}`);
    const arenaEnd = ARENA + ((codeCacheBytes + 15) & ~15);
    const codeMasks = arenaEnd;
    const frameBlocks = codeMasks + 8 * frames;
    const dirty = frameBlocks + 4 * frames;
    const counters = Math.ceil((dirty + frames) / 8) * 8;
    const profiled = profile === undefined ? 0 : PROFILE_BYTES;
    const framesBase = Math.ceil((counters + profiled) / PAGE) * PAGE;
    const pages = Math.ceil((framesBase + frames * PAGE) / WASM_PAGE);
    if (pages > WASM_PAGE) throw new RangeError(`${frames} frames do not fit the machine's 4 GiB`);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    options.advise?.(memory.buffer);
    const decoder = new BlockDecoder(memory.buffer);
    const mem = new LinearMemory(memory.buffer);
    const table = Translator.table();
    const profiling = profile === undefined ? undefined : { at: counters, now: profile };
    const aside = tier === 'normal' && !compilesAtOnce;
    const translator = new Translator(
      memory,
      table,
      { base: framesBase, count: frames, firstMfn: map.firstMfn },
      tier,
      aside,
      profiling,
    );
    const instance = await WebAssembly.instantiate(compileCore(), {
      env: {
        memory,
        table,
        abort: () => {
          throw new Error('the engine failed');
        },
        raise: () => {
          throw thrown;
        },
        translate: (cpu: number) => translator.translate(cpu),
        dropped: (block: number) => translator.dropped(block >>> 0),
        now: () => config.now(),
        cpuid: (cpu: number) => answerCpuid(config.cpuid, mem, cpu),
        decode: (cpu: number, va: bigint, at: number, to: number) =>
          // In this case the core asks on its own behalf, not for a vCPU, and only for the code in one page.
          decoder.decode(
            at >>> 0,
            to,
            () => (cpu === 0 ? 0 : core.codePage(cpu, (va | 4095n) + 1n) >>> 0),
            cpu === 0 ? KIND_LONG : mem.getU32(cpu + CODE_KIND),
          ),
      },
    });
    // Types: WebAssembly's declarations do not know the exports of a module.
    const core = instance.exports as unknown as Core;
    translator.connect(instance.exports);
    core.init(framesBase, frames, map.firstMfn, codeMasks, frameBlocks, dirty, arenaEnd, vcpus);
    return new Machine(config, memory, core, translator, framesBase, dirty);
  }

  /** The end by time is converted into a number of instructions, at the recently measured rate. */
  slice(vcpu: number, instructions: number, now: number, untilNs: number): void {
    const v = this.vcpus[vcpu];
    const { retired } = v;
    let most = instructions;
    v.timed = untilNs !== Number.POSITIVE_INFINITY;
    if (v.timed) {
      const fit = Math.floor((untilNs - now) * this.rate);
      most = Math.min(most, MAX_BUDGET, Math.max(MIN_BUDGET, fit));
      v.began = now;
      v.beganAt = retired;
    }
    v.end = retired + most;
  }

  /** A slice by time has ended: its rate is used if it was long enough to measure one. */
  private measure(v: Vcpu, retired: number): void {
    const ns = this.config.now() - v.began;
    if (ns > MEASURED_NS) this.rate += ((retired - v.beganAt) / ns - this.rate) / 8;
  }

  /** `instructions`: starts a slice of this many instructions, for callers that have no clock. */
  run(vcpu: number, instructions?: number): Exit {
    const v = this.vcpus[vcpu];
    let now = v.retired;
    if (instructions !== undefined) {
      v.timed = false;
      v.end = now + instructions;
    }
    const { end } = v;
    for (;;) {
      const { stackShadow } = v;
      if (this.exitsRequested !== 0 && stackShadow < 0 && this.takeRequest(vcpu)) return Exit.halted;
      if (now >= end && stackShadow < 0) {
        if (v.timed) this.measure(v, now);
        return Exit.limit;
      }
      const before = now;
      const stepping = v.stepping;
      const breakpoints = breakpointsOn(v);
      if (breakpoints) {
        const hits = v.resuming || stackShadow >= 0 ? 0 : instructionHits(v);
        if (hits !== 0) return raiseDebug(v, hits);
        watch(v, this.mem);
      }
      const single = stepping || breakpoints || stackShadow >= 0 || v.codeKind >= KIND_CHECKED;
      const exit = this.enter(v, before, single ? 1 : Math.min(MOST, end - before));
      now = v.retired;
      let trap = (breakpoints ? endWatch(v, this.mem) : 0) | (stepping ? DR6_BS : 0);
      if (stackShadow >= 0) {
        trap |= stackShadow;
        // For an instruction that needs descriptors, the hypervisor does the rest. For other exits, a pending debug
        // exception is lost: a processor delivers it at the first instruction of Xen, which ignores it.
        if (exit !== Exit.descriptor) v.stackShadow = -1;
      }
      if (trap !== 0 && now > before && (exit === Exit.limit || exit === RECHECK)) return raiseDebug(v, trap);
      if (exit === Exit.limit || exit === RECHECK) continue;
      if (exit === Exit.forcedEmulation && !this.hasSignature(vcpu, v.linear(v.rip + v.exitLength)))
        return v.raised(UD);
      return exit;
    }
  }

  private enter(v: Vcpu, before: number, budget: number): number {
    this.running = v;
    this.tables.untouched = false;
    try {
      const exit = this.core.run(v.gprs, budget);
      if (v.resuming && v.retired > before) v.resuming = false;
      if (exit >= Exit.privileged && exit <= Exit.forcedEmulation) v.resuming = true;
      return exit;
    } catch (error) {
      if (error !== thrown) throw error;
      this.core.unwind(v.gprs);
      // A fault saves RF as set, so that an instruction breakpoint does not stop the instruction a second time. SDM
      // volume 3, 17.3.1.1.
      v.resuming = true;
      return v.exitVector >= LEAVING ? v.exitVector - LEAVING : Exit.exception;
    } finally {
      this.running = undefined;
    }
  }

  /**
   * Translates a guest address to a linear address; -1 if it faults, with the vCPU's fault fields set. Intents: 0
   * read, 1 write (sets A and D, marks the frame dirty, drops its decoded code), 2 execute; plus 4 for guest user
   * mode, or 8 for guest kernel mode. The result is valid to the end of the page, and until the caller returns to the
   * event loop.
   */
  translate(vcpu: number, va: number, intent: number): number {
    const linear = this.core.translate(this.vcpus[vcpu].gprs, va, intent) >>> 0;
    return linear === 0 ? -1 : linear;
  }

  /** The translator's counters. */
  get translation(): Readonly<Profile> {
    return this.translator.profile;
  }

  /** The counters, and the `most` regions that executed most; undefined without WasmOptions.profile. */
  profile(most: number): FullProfile | undefined {
    return this.translator.fullProfile(most);
  }

  /** Host code writes into the frame at this address: marks it dirty and drops its decoded code. */
  touch(linear: number): void {
    this.core.touch(linear);
  }

  /**
   * Start addresses of frequently executed code, as offsets from the first frame, at most `most`, ordered roughly by
   * how often it ran. Another machine with the same memory can prepare the code from them.
   */
  hotCode(most: number): Uint32Array {
    return this.translator.hotCode(most).map((at) => at - this.ram.base);
  }

  /**
   * Decodes the code at an offset of hotCode() before the guest's state has arrived. From the first call on until
   * restore(), whoever writes the memory must call touch(); otherwise restore() discards what was decoded.
   */
  prepareCode(offset: number): void {
    this.prepared = true;
    if (offset < this.ram.frames * PAGE) this.core.prepareBlock(this.ram.base + offset);
  }

  requestExit(vcpu: number): void {
    this.exitsRequested |= 1 << vcpu;
    if (this.running?.id === vcpu) this.core.endRun(this.running.gprs);
  }

  private takeRequest(vcpu: number): boolean {
    const requested = (this.exitsRequested & (1 << vcpu)) !== 0;
    this.exitsRequested &= ~(1 << vcpu);
    return requested;
  }

  /** The memory is freed with the last reference to it. */
  close(): void {}

  save(): VcpuState[] {
    return this.vcpus.map((v) => saveVcpu(v, this.mem));
  }

  restore(states: readonly VcpuState[]): void {
    checkVcpuStates(states, this.vcpus.length);
    for (const [i, saved] of states.entries()) restoreVcpu(this.vcpus[i], this.mem, saved);
    if (!this.prepared) this.core.dropAll();
    this.prepared = false;
    this.tables.forget();
    this.tables.untouched = true;
  }

  private hasSignature(vcpu: number, va: number): boolean {
    return XEN_SIGNATURE.every((byte, i) => {
      const at = this.translate(vcpu, va + i, 0);
      return at !== -1 && this.mem.getU8(at) === byte;
    });
  }
}

function raiseDebug(v: Vcpu, status: number): Exit {
  v.setDr(6, (v.dr(6) | status) >>> 0);
  return v.raised(DB);
}

function answerCpuid(table: CpuidTable, mem: LinearMemory, cpu: number): void {
  const entry = lookupCpuid(table, mem.getU32(cpu), mem.getU32(cpu + 8));
  mem.setU64(cpu, (entry?.eax ?? 0) >>> 0);
  mem.setU64(cpu + 24, (entry?.ebx ?? 0) >>> 0);
  mem.setU64(cpu + 8, (entry?.ecx ?? 0) >>> 0);
  mem.setU64(cpu + 16, (entry?.edx ?? 0) >>> 0);
}
