/**
 * Tests that the tiers cannot be distinguished: random programs that are stopped at random places leave the same
 * registers, flags, memory, counts and faults, whether they are interpreted, translated at once, translated when warm,
 * or translated and dropped at random.
 */

import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { assemble } from '../../../src/asm/assembler.js';
import { Exit, PAGE } from '../../../src/engine/engine.js';
import { encodeVcpuStates } from '../../../src/engine/vcpu-state.js';
import { AddressSpace } from '../address-space.js';
import type { Machine, Tier } from '../machine.js';
import { createMachine } from '../machine.js';
import { makeProgram, Random } from './programs.js';

const CODE = 0x40_0000;
const CODE_PAGES = 4;
const DATA = 0x50_0000;
const STACK = 0x60_0000;
const FRAMES = 64;
const TIERS: readonly Tier[] = ['interpreter', 'translate', 'normal', 'stress'];
const [RBX, RSP] = [3, 4];

const seeds = Number(process.env.STILLPOINT_TIER_PROGRAMS ?? 24);
const first = Number(process.env.STILLPOINT_TIER_SEED ?? 1);

interface Subject {
  readonly machine: Machine;
  readonly pages: readonly number[];
}

async function open(tier: Tier, image: Uint8Array): Promise<Subject> {
  const machine = await createMachine(FRAMES, undefined, 1, tier);
  const space = new AddressSpace(machine);
  const pages: number[] = [];
  for (let i = 0; i < CODE_PAGES; i++) {
    pages.push(space.mapNew(CODE + i * PAGE, { write: true, execute: true }));
    machine.mem.u8.set(image.subarray(i * PAGE, (i + 1) * PAGE), pages[i]);
  }
  pages.push(space.mapNew(DATA, { write: true, execute: false }));
  for (let i = 0; i < PAGE; i++) machine.mem.u8[pages[CODE_PAGES] + i] = (i * 167 + 13) >> (i & 3);
  pages.push(space.mapNew(STACK - PAGE, { write: true, execute: false }));
  const [cpu] = machine.vcpus;
  cpu.cr3Kernel = space.root;
  cpu.cr3User = space.root;
  cpu.userMode = true;
  cpu.cs = 0x33;
  cpu.ss = 0x2b;
  for (let i = 0; i < 16; i++) cpu.setRegBig(i, BigInt(i) * 0x1234_5678_9abcn);
  cpu.setReg(RBX, DATA);
  cpu.setReg(RSP, STACK - 256);
  cpu.rip = CODE;
  machine.tables.forget();
  return { machine, pages };
}

/** Everything that a guest, or a migration, can observe. */
function stateOf({ machine, pages }: Subject): string {
  const hash = createHash('sha256').update(encodeVcpuStates(machine.save()));
  for (const page of pages) hash.update(machine.mem.bytes(page, PAGE));
  return hash.digest('hex');
}

/** Runs to the next stop. Returns what happened, or undefined at the end. */
function advance(subject: Subject, budget: number): string | undefined {
  const { machine } = subject;
  const [cpu] = machine.vcpus;
  const exit = machine.run(0, budget);
  const text = `${Exit[exit]} ${exit === Exit.limit ? '' : cpu.exitVector} rip ${cpu.rip.toString(16)} count ${cpu.retired}`;
  if (exit === Exit.limit) return text;
  if (exit !== Exit.exception || cpu.exitVector === 3) return undefined;
  // The faulting instruction is not counted.
  cpu.rip += cpu.exitLength;
  return text;
}

test.each(Array.from({ length: seeds }, (_, i) => first + i))(
  'of program %i',
  { timeout: 60_000 },
  async (seed) => {
    const times = seed % 6 === 0 ? 2500 : 60;
    const { bytes } = assemble(makeProgram(seed, times), BigInt(CODE));
    expect(bytes.length).toBeLessThan(CODE_PAGES * PAGE);
    const image = new Uint8Array(CODE_PAGES * PAGE);
    image.set(bytes);
    const [reference, ...others] = await Promise.all(TIERS.map((tier) => open(tier, image)));
    const random = new Random(seed + 1000);
    for (let step = 0; step < 4000; step++) {
      const budget =
        random.below(4) === 0 ? 1 + random.below(12) : 1 + random.below(times > 60 ? 20_000 : 600);
      const wanted = advance(reference, budget);
      const found = others.map((o) => advance(o, budget));
      if (found.some((f) => f !== wanted) || others.some((o) => stateOf(o) !== stateOf(reference)))
        expect(
          others.map((o, i) => `${TIERS[i + 1]}: ${found[i]} ${stateOf(o)}`),
          `seed ${seed}, step ${step}`,
        ).toEqual(others.map((_, i) => `${TIERS[i + 1]}: ${wanted} ${stateOf(reference)}`));
      if (wanted === undefined) break;
    }
    expect(others[0].machine.translation.regions, 'nothing was translated').toBeGreaterThan(0);
  },
);
