/** A machine with one code page and one data page, in user mode. It runs a few bytes and reports how they ended. */
import { type Exit, PAGE } from '../../src/engine/engine.js';
import { AddressSpace } from './address-space.js';
import type { Machine, Vcpu } from './machine.js';
import { createMachine } from './machine.js';

export const CODE = 0x40_0000;
export const DATA = 0x50_0000;
const FRAMES = 16;
const NOP = 0x90;

export interface Bare {
  readonly machine: Machine;
  readonly cpu: Vcpu;
  /** The linear address of the data page. */
  readonly data: number;
  /** Runs at most `budget` instructions from CODE on: `bytes`, then nops. Registers stay as they are. */
  run(bytes: ArrayLike<number>, budget?: number): Exit;
}

export async function openBare(): Promise<Bare> {
  const machine = await createMachine(FRAMES);
  const space = new AddressSpace(machine);
  const code = space.mapNew(CODE, { write: false, execute: true });
  const data = space.mapNew(DATA, { write: true, execute: false });
  const [cpu] = machine.vcpus;
  cpu.cr3Kernel = space.root;
  cpu.cr3User = space.root;
  cpu.userMode = true;
  cpu.cs = 0x33;
  cpu.ss = 0x2b;
  return {
    machine,
    cpu,
    data,
    run(bytes, budget = 1) {
      machine.touch(code);
      machine.mem.u8.fill(NOP, code, code + PAGE);
      machine.mem.u8.set(bytes, code);
      cpu.rip = CODE;
      return machine.run(0, budget);
    },
  };
}
