// Runs a kernel on our machine: the static Linux program, in guest user mode, on page tables of 4 KiB pages with the
// rights that its segments ask for. Of Linux it needs two calls of clock_gettime, a write and an exit.
import { readFileSync } from 'node:fs';
import { Exit, FrameMap } from '../../src/engine/engine.js';
import { wasmEngine } from '../../src/engine/engines.js';
import { parseElf } from '../../src/guest/elf.js';
import { virtualXen417 } from '../../src/hypervisor/identity.js';
import { tuneEngine } from '../../src/os/tune-engine.js';
import type { Machine } from '../../test/cpu/machine.js';
import { FRAME, processorSeconds, type Run } from './cpu-program.js';

const PAGE = 4096;
const FRAMES = 2048;
const STACK_TOP = 0x7ff000;
const STACK_PAGES = 16;
const BUDGET = 2 ** 40;
const [RAX, RSP, RSI] = [0, 4, 6];
const CLOCK_GETTIME = 228;
const WRITE = 1;
const PT_LOAD = 1;
const NO_EXECUTE = 0x8000_0000;

interface Page {
  readonly frame: number;
  write: boolean;
  execute: boolean;
}

/** One table at each of the three upper levels is enough: the programs are in the first GiB. */
class Tables {
  private next = 0;
  readonly root = this.take();
  private readonly l3 = this.take();
  private readonly l2 = this.take();
  private readonly l1 = new Map<number, { table: number; pages: Map<number, Page> }>();

  constructor(private readonly machine: Machine) {
    this.set(this.root, 0, this.l3, 7, 0);
    this.set(this.l3, 0, this.l2, 7, 0);
  }

  private take(): number {
    return this.next++;
  }

  private set(table: number, index: number, frame: number, low: number, high: number): void {
    const { mem, ram } = this.machine;
    const at = ram.linearOf(table) + 8 * index;
    mem.setU32(at, ((ram.mfnOf(frame) << 12) | low) >>> 0);
    mem.setU32(at + 4, (ram.mfnOf(frame) >>> 20) | high);
  }

  /** Maps a new page, or adds rights to an existing one. Returns its linear address. */
  map(va: number, write: boolean, execute: boolean): number {
    const slot = va >>> 21;
    let lowest = this.l1.get(slot);
    if (lowest === undefined) {
      lowest = { table: this.take(), pages: new Map() };
      this.l1.set(slot, lowest);
      this.set(this.l2, slot, lowest.table, 7, 0);
    }
    const { table, pages } = lowest;
    const index = (va >>> 12) & 511;
    const page = pages.get(index) ?? { frame: this.take(), write: false, execute: false };
    page.write ||= write;
    page.execute ||= execute;
    pages.set(index, page);
    this.set(table, index, page.frame, page.write ? 7 : 5, page.execute ? 0 : NO_EXECUTE);
    return this.machine.ram.linearOf(page.frame);
  }
}

function load(machine: Machine, file: string): void {
  const tables = new Tables(machine);
  const elf = parseElf(readFileSync(file));
  for (const s of elf.segments.filter((p) => p.type === PT_LOAD)) {
    const address = Number(s.paddr);
    const bytes = elf.bytes.subarray(Number(s.offset), Number(s.offset + s.filesz));
    for (let va = address & -PAGE; va < address + Number(s.memsz); va += PAGE) {
      const to = tables.map(va, (s.flags & 2) !== 0, (s.flags & 1) !== 0);
      const first = Math.max(va, address);
      const part = bytes.subarray(first - address, Math.max(first, va + PAGE) - address);
      machine.mem.u8.set(part, to + (first - va));
    }
  }
  for (let i = 1; i <= STACK_PAGES; i++) tables.map(STACK_TOP - i * PAGE, true, false);
  const cpu = machine.vcpus[0];
  cpu.cr3User = machine.ram.mfnOf(tables.root);
  cpu.userMode = true;
  cpu.rip = Number(elf.entry);
  cpu.setReg(RSP, STACK_TOP - 64);
  machine.tables.forget();
}

/** Processor time of the thread that executes. */
const ownSeconds = () => processorSeconds(process.pid, process.pid);

/** Result, seconds, and the number of instructions of the kernel itself. */
export async function runInMachine(
  file: string,
  tier: 'interpreter' | 'translate' | 'normal',
): Promise<Run & { readonly instructions: number }> {
  const identity = virtualXen417(1);
  const { cpuid } = identity;
  tuneEngine();
  const create = wasmEngine({ tier, compilesAtOnce: true });
  const machine = await create({ map: FrameMap.whole(FRAMES), vcpus: 1, cpuid, now: () => 0 });
  load(machine, file);
  const cpu = machine.vcpus[0];
  const marks: { time: number; count: number }[] = [];
  for (;;) {
    const exit = machine.run(0, BUDGET);
    if (exit !== Exit.syscall) throw new Error(`${file}: exit ${Exit[exit]} at ${cpu.rip.toString(16)}`);
    const call = cpu.reg(RAX);
    if (call === CLOCK_GETTIME) marks.push({ time: ownSeconds(), count: cpu.retired });
    else if (call === WRITE) break;
    else throw new Error(`${file}: system call ${call}`);
  }
  const [before, after] = marks;
  const result = machine.mem.getBig(machine.translate(0, cpu.reg(RSI), 0));
  return {
    result,
    seconds: after.time - before.time,
    instructions: after.count - before.count - FRAME,
  };
}
