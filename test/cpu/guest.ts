/**
 * Runs sequences on our machine in place of the processor, with the same addresses and the same blocks of registers in
 * and out as native.ts. Sequences end in an undefined instruction where the native ones jump out. In compatibility mode
 * they end at the same far jump, which the machine leaves to the hypervisor.
 */
import { Exit, PAGE } from '../../src/engine/engine.js';
import { AddressSpace } from './address-space.js';
import { loadSegments } from './compat-segments.js';
import {
  BLOCK,
  CODE,
  CODE_BYTES,
  DATA,
  DATA_BYTES,
  FS_BASE,
  GS_BASE,
  RESULT_BYTES,
  TRAMPOLINE,
  WRITABLE_BYTES,
} from './layout.js';
import type { Machine } from './machine.js';
import { createMachine } from './machine.js';

/** The maximum number of instructions of a sequence: loops are short. */
const BUDGET = 100_000;
export const END = Uint8Array.of(0x0f, 0x0b, 0x90, 0x90, 0x90);

/** "Vectors" from this number on are exits with which no sequence should end. */
const UNEXPECTED = 1000;
const RF = 0x1_0000;

interface Fault {
  readonly vector: number;
  readonly error: number;
  readonly address: bigint;
}

export interface Guest {
  readonly machine: Machine;
  /** Writes code at an address in the code region. */
  putCode(address: number, bytes: Uint8Array): void;
  /** Runs one block on a fresh copy of the window; `end` is the address where the sequence ends. */
  run(block: Uint8Array, window: Uint8Array, end: number): Uint8Array;
}

export async function openGuest(readOnly: Uint8Array): Promise<Guest> {
  const pages = (CODE - TRAMPOLINE + CODE_BYTES + DATA_BYTES) / PAGE + 16;
  const machine = await createMachine(pages);
  const space = new AddressSpace(machine);
  const { mem } = machine;
  const frames: number[] = [];
  for (let at = 0; at < CODE_BYTES; at += PAGE)
    frames.push(space.mapNew(CODE + at, { write: false, execute: true }));
  const data: number[] = [];
  for (let at = 0; at < DATA_BYTES; at += PAGE)
    data.push(space.mapNew(DATA + at, { write: at < WRITABLE_BYTES, execute: false }));
  mem.u8.set(readOnly.subarray(0, PAGE), data[2]);
  const scratch = space.linear(space.takeFrame());
  const cpu = machine.vcpus[0];
  cpu.cr3Kernel = space.root;
  cpu.cr3User = space.root;
  cpu.userMode = true;
  cpu.fsBase = FS_BASE;
  cpu.gsBase = GS_BASE;
  cpu.cs = 0x33;
  cpu.ss = 0x2b;
  machine.tables.forget();

  const faultOf = (exit: Exit, end: number): Fault | undefined => {
    switch (exit) {
      case Exit.exception: {
        if (cpu.exitVector === 6 && cpu.rip === end) return undefined;
        const address = cpu.exitVector === 14 ? BigInt.asUintN(64, BigInt(cpu.exitCr2)) : 0n;
        return { vector: cpu.exitVector, error: cpu.exitErrorCode, address };
      }
      case Exit.privileged:
      case Exit.descriptor:
        if (cpu.rip === end) return undefined;
        return { vector: 13, error: 0, address: 0n };
      default:
        return { vector: UNEXPECTED + exit, error: 0, address: 0n };
    }
  };

  return {
    machine,
    putCode(address, bytes) {
      for (let i = 0; i < bytes.length; ) {
        const page = (address + i - CODE) / PAGE;
        const offset = (address + i) % PAGE;
        const part = bytes.subarray(i, i + PAGE - offset);
        const to = frames[Math.floor(page)] + offset;
        machine.touch(to);
        mem.u8.set(part, to);
        i += part.length;
      }
    },
    run(block, window, end) {
      const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
      for (let i = 0; i < 2; i++) {
        machine.touch(data[i]);
        mem.u8.set(window.subarray(i * PAGE, (i + 1) * PAGE), data[i]);
      }
      for (let i = 0; i < 16; i++) cpu.setRegBig(i, view.getBigUint64(8 * i, true));
      const selectors = Array.from({ length: 6 }, (_, i) => view.getUint16(BLOCK.selectors + 2 * i, true));
      if (selectors[0] === 0) {
        cpu.cs = 0x33;
        cpu.ss = 0x2b;
        cpu.fsBase = FS_BASE;
        cpu.gsBase = GS_BASE;
      } else {
        const [cs, es, ...others] = selectors;
        loadSegments(cpu, [es, cs, ...others]);
      }
      cpu.rip = Number(view.getBigUint64(BLOCK.rip, true));
      cpu.rflags = view.getUint32(BLOCK.rflags, true);
      mem.u8.set(block.subarray(BLOCK.fxsave, BLOCK.fxsave + 512), scratch);
      cpu.fxrstor(scratch);
      const exit = machine.run(0, BUDGET);
      const out = new Uint8Array(RESULT_BYTES);
      const result = new DataView(out.buffer);
      for (let i = 0; i < 16; i++) result.setBigUint64(8 * i, cpu.regBig(i), true);
      result.setBigUint64(BLOCK.rflags, BigInt(cpu.rflags), true);
      const fault = faultOf(exit, end);
      if (fault !== undefined) {
        result.setBigUint64(BLOCK.signal, 1n, true);
        result.setBigUint64(BLOCK.rip, BigInt.asUintN(64, BigInt(cpu.rip)), true);
        result.setBigUint64(BLOCK.vector, BigInt(fault.vector), true);
        result.setBigUint64(BLOCK.error, BigInt(fault.error), true);
        result.setBigUint64(BLOCK.cr2, fault.address, true);
        result.setBigUint64(BLOCK.resume, BigInt(cpu.rflags & RF), true);
      }
      mem.u8.fill(0, scratch, scratch + 512);
      cpu.fxsave(scratch);
      out.set(mem.u8.subarray(scratch, scratch + 512), BLOCK.fxsave);
      for (let i = 0; i < 2; i++) out.set(mem.u8.subarray(data[i], data[i] + PAGE), BLOCK.bytes + i * PAGE);
      return out;
    },
  };
}
