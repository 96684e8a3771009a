/**
 * A domain with a kernel of a few lines of assembly, for tests of the hypervisor on the real machine.
 *
 * Memory, 8 MiB: virtual address = frame * 4096, all writable and executable; page tables are the last frames,
 * mapped read-only and typed; shared_info is mapped at SHARED. Kernel and user mode may use the same tables.
 * Code starts at CODE with rsp = STACK. Words that the test looks at go to DATA.
 */

import { type Assembled, assemble } from '../../src/asm/assembler.js';
import { type CreateEngine, FrameMap } from '../../src/engine/engine.js';
import { wasmEngine } from '../../src/engine/engines.js';
import { Domain, type DomainRun } from '../../src/hypervisor/domain.js';
import { virtualXen417 } from '../../src/hypervisor/identity.js';

export const FRAMES = 2048;
export const CODE = 0x1_0000;
export const STACK = 0x9000;
export const USER_STACK = 0xc000;
export const DATA = 0x4_0000;
export const SHARED = 0x80_0000;
/** An address that is not mapped. */
export const HOLE = 0x90_0000;
export const L4 = FRAMES - 1;
export const L3 = FRAMES - 2;
export const L2 = FRAMES - 3;
export const L1 = FRAMES - 8;
/** Every guest has this map, which also includes frames that it does not have. */
const MAP = FrameMap.whole(2 ** 20);
export const mfn = (frame: number): number => MAP.mfnOf(frame);

/** Constants for the assembly: the addresses above, and hypercall numbers that tests use often. */
const CONSTANTS = {
  STACK,
  USER_STACK,
  DATA,
  SHARED,
  HOLE,
  SET_TRAP_TABLE: 0,
  MMU_UPDATE: 1,
  STACK_SWITCH: 3,
  SET_CALLBACKS: 4,
  UPDATE_VA_MAPPING: 14,
  SET_TIMER_OP: 15,
  XEN_VERSION: 17,
  IRET: 23,
  VCPU_OP: 24,
  MMUEXT_OP: 26,
  SCHED_OP: 29,
  EVENT_CHANNEL_OP: 32,
};

/** Ends the guest: `jmp poweroff`. Appended to every source. */
const POWEROFF = `
  poweroff:
    lea rsi, [poweroff_reason]
    mov edi, 2
    mov eax, SCHED_OP
    syscall
    jmp poweroff
  poweroff_reason: dd 0
`;

export interface TinyOptions {
  readonly vcpus?: number;
  /** ns for each instruction; 1 by default. */
  readonly nsPerInstruction?: number;
  readonly maxFrames?: number;
  readonly wallClock?: () => number;
  /** False for guests that were switched on when the machine-to-physical table did not start at frame 0. */
  readonly wholeM2p?: boolean;
  /** Time follows this clock, ns, instead of counting instructions. */
  readonly monotonic?: () => number;
  /** The engine; by default the WebAssembly engine. */
  readonly engine?: CreateEngine;
}

export class TinyGuest {
  private constructor(
    readonly domain: Domain,
    readonly code: Assembled,
    /** The same guest in another container, as it was built. */
    private readonly another: () => Promise<TinyGuest>,
  ) {}

  static async boot(source: string, options: TinyOptions = {}): Promise<TinyGuest> {
    const guest = await TinyGuest.empty(source, options);
    const { domain } = guest;
    domain.prepare();
    const { ram } = domain.buildTarget;
    const { mem } = ram;
    const entry = (table: number, index: number, to: number, flags: number): void => {
      const at = ram.linearOf(table) + 8 * index;
      mem.setU32(at, (mfn(to) << 12) | flags);
      mem.setU32(at + 4, mfn(to) >>> 20);
    };
    entry(L4, 0, L3, 7);
    entry(L3, 0, L2, 7);
    for (let i = 0; i < 5; i++) entry(L2, i, L1 + i, 7);
    for (let frame = 0; frame < FRAMES; frame++) {
      entry(L1 + (frame >>> 9), frame & 511, frame, frame >= L1 ? 5 : 7);
    }
    entry(L1 + 4, 0, domain.layout.sharedInfo, 7);
    mem.u8.set(guest.code.bytes, ram.linearOf(0) + CODE);
    domain.powerOn({ rip: CODE, rsp: STACK, rsi: 0, cr3: mfn(L4) });
    domain.start();
    return guest;
  }

  /** A container without a guest, to restore into. */
  static async empty(source: string, options: TinyOptions = {}): Promise<TinyGuest> {
    const vcpus = options.vcpus ?? 1;
    const domain = await Domain.create(
      {
        domid: 7,
        uuid: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
        vcpus,
        memoryFrames: FRAMES,
        maxFrames: options.maxFrames ?? FRAMES,
        memoryMap: [{ start: 0n, bytes: BigInt(FRAMES * 4096), type: 1 }],
        identity: virtualXen417(vcpus),
        nsPerInstruction: options.monotonic ? undefined : (options.nsPerInstruction ?? 1),
        wholeM2p: options.wholeM2p,
      },
      {
        monotonic: options.monotonic ?? (() => 0),
        wallClock: options.wallClock ?? (() => 1_600_000_000e9),
        engine: options.engine ?? wasmEngine(),
      },
    );
    return new TinyGuest(domain, assemble(source + POWEROFF, BigInt(CODE), CONSTANTS), () =>
      TinyGuest.empty(source, options),
    );
  }

  /** All of its memory. */
  get ram(): Uint8Array {
    const { ram } = this.domain.engine;
    return ram.bytes(0, ram.frames);
  }

  /** The guest in a new container, where it continues. */
  async moved(): Promise<TinyGuest> {
    this.domain.pause();
    const saved = this.domain.save().slice();
    const to = await this.another();
    to.ram.set(this.ram);
    to.domain.restore(saved);
    to.domain.clock.start();
    return to;
  }

  /** Runs until the guest ends or `limitNs` of its time have passed. */
  run(limitNs = 1e9): DomainRun {
    return this.domain.run(limitNs);
  }

  private linear(va: number): number {
    return this.domain.engine.ram.linearOf(0) + va;
  }
  u8(va: number): number {
    return this.domain.state.mem.getU8(this.linear(va));
  }
  u32(va: number): number {
    return this.domain.state.mem.getU32(this.linear(va));
  }
  s64(va: number): number {
    return this.domain.state.mem.getS64(this.linear(va));
  }
  big(va: number): bigint {
    return this.domain.state.mem.getBig(this.linear(va));
  }
  setU64(va: number, value: number | bigint): void {
    if (typeof value === 'bigint') this.domain.state.mem.setBig(this.linear(va), value);
    else this.domain.state.mem.setU64(this.linear(va), value);
  }
  setU32(va: number, value: number): void {
    this.domain.state.mem.setU32(this.linear(va), value);
  }
  setU16(va: number, value: number): void {
    this.domain.state.mem.setU16(this.linear(va), value);
  }
  text(va: number): string {
    let text = '';
    for (let at = va; this.u8(at) !== 0; at++) text += String.fromCharCode(this.u8(at));
    return text;
  }
  /** Returns 64-bit words from `va` on. */
  words(va: number, count: number): bigint[] {
    return Array.from({ length: count }, (_, i) => this.big(va + 8 * i));
  }
}

const LIST = 0x10_0000;

/** A kernel that reads calls of six words from LIST, makes them, and stores each result behind its call. */
const RUNNER = `
    mov rbx, ${LIST}
  next:
    mov rax, [rbx]
    cmp rax, -1
    je poweroff
    mov rdi, [rbx+8]
    mov rsi, [rbx+16]
    mov rdx, [rbx+24]
    mov r10, [rbx+32]
    mov r8, [rbx+40]
    syscall
    mov [rbx+48], rax
    add rbx, 56
    jmp next
`;

/** A hypercall as numbers: its number, then up to five arguments. */
export type Call = readonly (number | bigint)[];

/** A guest that only makes hypercalls: `calls` returns their results. */
export class CallingGuest {
  private constructor(readonly guest: TinyGuest) {}

  static async boot(options: TinyOptions = {}): Promise<CallingGuest> {
    return new CallingGuest(await TinyGuest.boot(`${RUNNER} again: jmp again`, options));
  }

  /** Makes the calls in the guest's kernel, one after another. */
  calls(...list: Call[]): number[] {
    const { guest } = this;
    const { domain } = guest;
    list.forEach((call, i) => {
      for (let word = 0; word < 6; word++) guest.setU64(LIST + 56 * i + 8 * word, call[word] ?? 0);
    });
    guest.setU64(LIST + 56 * list.length, -1);
    domain.state.vcpus[0].cpu.rip = CODE;
    const end = domain.run(1e9);
    if (end.state !== 'shutdown' || end.reason !== 'poweroff') {
      throw new Error(`the guest ended otherwise: ${JSON.stringify(end)}`);
    }
    domain.state.shutdown = undefined;
    return list.map((_, i) => guest.s64(LIST + 56 * i + 48));
  }

  /** Makes one call. */
  call(...call: Call): number {
    return this.calls(call)[0];
  }
}
