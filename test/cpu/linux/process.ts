/**
 * A Linux program on the bare machine: loader, stack and system calls, and nothing else of a kernel. This is for tests
 * only. The process is independent of its machine: it can continue in another one that was restored from the first.
 */
import { readFileSync } from 'node:fs';
import { Exit, PAGE } from '../../../src/engine/engine.js';
import { decodeAt } from '../../../src/hypervisor/emulation/decode-at.js';
import { AddressSpace } from '../address-space.js';
import type { Machine } from '../machine.js';
import { type Elf, EXECUTE, LOAD, readElf, WRITE } from './elf.js';
import { Files } from './files.js';
import { ProcessMemory } from './process-memory.js';
import { CALLS, type Kernel } from './syscalls.js';

const STACK_TOP = 0x7fff_0000_0000;
const STACK_BYTES = 256 * 1024;
const PROGRAM_BASE = 0x5555_5555_4000;
const LOADER_BASE = 0x7fee_0000_0000;
/** Auxiliary vector entries (elf.h). */
const AT = {
  phdr: 3,
  phent: 4,
  phnum: 5,
  pagesz: 6,
  base: 7,
  entry: 9,
  uid: 11,
  euid: 12,
  gid: 13,
  egid: 14,
  clktck: 17,
  secure: 23,
  random: 25,
  execfn: 31,
};
const RAX = 0;
const RCX = 1;
const RSP = 4;
const R11 = 11;
/** The registers of the arguments: rdi, rsi, rdx, r10, r8, r9. */
const ARGUMENTS = [7, 6, 2, 10, 8, 9];
const FOREVER = 2 ** 31 - 1;

export interface ProcessOptions {
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly input?: Uint8Array;
}

export class LinuxProcess implements Kernel {
  readonly files: Files;
  readonly memory: ProcessMemory;
  /** The exit status, once the process has ended. */
  status: number | undefined;
  systemCalls = 0;

  constructor(
    machine: Machine,
    readonly program: string,
    options: ProcessOptions,
  ) {
    const space = new AddressSpace(machine);
    this.memory = new ProcessMemory(space);
    this.files = new Files(options.folder, options.input ?? new Uint8Array());
    const cpu = machine.vcpus[0];
    cpu.cr3Kernel = space.root;
    cpu.cr3User = space.root;
    cpu.userMode = true;
    cpu.cs = 0x33;
    cpu.ss = 0x2b;
    cpu.rflags = 0x202;
    const elf = readElf(readFileSync(program));
    const base = this.#load(program, elf, elf.relocatable ? PROGRAM_BASE : 0);
    let start = base + elf.entry;
    let loader = 0;
    if (elf.interpreter !== undefined) {
      const loaderElf = readElf(readFileSync(elf.interpreter));
      loader = this.#load(elf.interpreter, loaderElf, LOADER_BASE);
      start = loader + loaderElf.entry;
    }
    const last = Math.max(
      ...elf.segments.filter((s) => s.type === LOAD).map((s) => s.address + s.memoryBytes),
    );
    this.memory.brkStart = this.memory.brkEnd = Math.ceil((base + last) / PAGE) * PAGE;
    cpu.rip = start;
    cpu.setReg(RSP, this.#stack(options, elf, base, loader));
  }

  get machine(): Machine {
    return this.memory.space.machine;
  }

  /** Continues in a machine with the same state. */
  moveTo(machine: Machine): void {
    this.memory.space = new AddressSpace(machine, this.memory.space);
  }

  now(): number {
    return this.machine.vcpus[0].retired;
  }
  setFsBase(value: number): void {
    this.machine.vcpus[0].fsBase = value;
  }
  setGsBase(value: number): void {
    this.machine.vcpus[0].gsBase = value;
  }
  exit(status: number): void {
    this.status = status;
  }

  /** Runs until the process ends or has executed `instructions` more. False: it has ended. */
  run(instructions = Number.POSITIVE_INFINITY): boolean {
    const cpu = this.machine.vcpus[0];
    const stop = cpu.retired + instructions;
    while (this.status === undefined) {
      const left = stop - cpu.retired;
      if (left <= 0) return true;
      const exit = this.machine.run(0, Math.min(left, FOREVER));
      if (exit === Exit.limit) continue;
      if (exit !== Exit.syscall) throw new Error(this.#describe(exit));
      this.#systemCall();
    }
    return false;
  }

  #systemCall(): void {
    const cpu = this.machine.vcpus[0];
    const number = cpu.reg(RAX);
    const call = CALLS.get(number);
    const [a, b, c, d, e, f] = ARGUMENTS.map((r) => cpu.reg(r));
    if (call === undefined)
      throw new Error(`system call ${number}(${[a, b, c, d].join(', ')}) of ${this.program}`);
    cpu.setReg(RCX, cpu.rip);
    cpu.setReg(R11, cpu.rflags);
    this.systemCalls++;
    // File descriptors and flags have 32 bits, and addresses are below 2^47: signed numbers are right for both.
    cpu.setReg(RAX, call(this, a, b, c, d, e | 0, f));
  }

  #describe(exit: Exit): string {
    const cpu = this.machine.vcpus[0];
    const hex = (n: number): string => n.toString(16);
    const ins = decodeAt(this.machine, 0, cpu.rip);
    return `${this.program}: exit ${exit}, vector ${cpu.exitVector}, error ${hex(cpu.exitErrorCode)}, cr2 ${hex(cpu.exitCr2)} at ${hex(cpu.rip)} after ${cpu.retired} instructions (${ins?.toString() ?? 'nothing to fetch'})`;
  }

  #load(path: string, elf: Elf, base: number): number {
    const bytes = new Uint8Array(readFileSync(path));
    for (const s of elf.segments.filter((x) => x.type === LOAD)) {
      const from = Math.floor((base + s.address) / PAGE) * PAGE;
      const to = Math.ceil((base + s.address + s.memoryBytes) / PAGE) * PAGE;
      this.memory.mapZeroed(from, to - from, {
        write: (s.flags & WRITE) !== 0,
        execute: (s.flags & EXECUTE) !== 0,
      });
      this.memory.write(base + s.address, bytes.subarray(s.offset, s.offset + s.fileBytes));
    }
    return base;
  }

  /** Pushes arguments, environment and auxiliary vector as the System V ABI requires. Returns rsp. */
  #stack(options: ProcessOptions, elf: Elf, base: number, loader: number): number {
    this.memory.mapZeroed(STACK_TOP - STACK_BYTES, STACK_BYTES, { write: true, execute: false });
    let at = STACK_TOP - 64;
    const put = (bytes: Uint8Array): number => {
      at -= bytes.length;
      this.memory.write(at, bytes);
      return at;
    };
    const putString = (s: string): number => put(new TextEncoder().encode(`${s}\0`));
    const name = putString(this.program);
    const random = put(Uint8Array.from({ length: 16 }, (_, i) => i * 13 + 5));
    const environment = Object.entries(options.environment ?? {}).map(([k, v]) => putString(`${k}=${v}`));
    const args = options.args.map(putString);
    const first = elf.segments.find((s) => s.type === LOAD && s.offset <= elf.headersAt);
    const headers = base + (first === undefined ? 0 : first.address - first.offset) + elf.headersAt;
    const auxiliary = [
      [AT.phdr, headers],
      [AT.phent, elf.headerBytes],
      [AT.phnum, elf.segments.length],
      [AT.pagesz, PAGE],
      [AT.base, loader],
      [AT.entry, base + elf.entry],
      [AT.uid, 0],
      [AT.euid, 0],
      [AT.gid, 0],
      [AT.egid, 0],
      [AT.clktck, 100],
      [AT.secure, 0],
      [AT.random, random],
      [AT.execfn, name],
      [0, 0],
    ];
    const words = [args.length, ...args, 0, ...environment, 0, ...auxiliary.flat()];
    const rsp = Math.floor((at - 8 * words.length) / 16) * 16;
    words.forEach((w, i) => {
      this.memory.setQuad(rsp + 8 * i, w);
    });
    return rsp;
  }
}
