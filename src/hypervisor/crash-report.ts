/** What a person needs to see of a domain that crashed: the registers of each vCPU, and words of the stack. */
import { Intent } from '../engine/engine.js';
import { SHUTDOWN_crash, SHUTDOWN_suspend, SHUTDOWN_watchdog } from '../xen/sched.js';
import type { MemoryState } from './mmu/mmu-state.js';
import type { ShutdownState } from './shutdown.js';
import type { VcpusState } from './vcpu/turn-state.js';

export interface VcpuReport {
  readonly vcpu: number;
  readonly userMode: boolean;
  /** Name and value, in the usual order. */
  readonly registers: readonly (readonly [string, bigint])[];
  readonly segments: readonly (readonly [string, number])[];
  /** Words from rsp upwards, as far as they can be read. */
  readonly stack: readonly bigint[];
}

export interface CrashReport {
  /** The rule that the guest broke, or what the guest itself reported. */
  readonly message: string;
  /** The vCPU that caused it. */
  readonly vcpu: number;
  readonly vcpus: readonly VcpuReport[];
}

const NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];
const WORDS = new Map([
  [SHUTDOWN_crash, 'the guest reported a crash of its own'],
  [SHUTDOWN_watchdog, "the guest's watchdog ran out"],
  [SHUTDOWN_suspend, 'the guest suspended itself, which nobody asked of it'],
]);
const STACK_WORDS = 64;
const RSP = 4;

export function crashReport(d: MemoryState & VcpusState & ShutdownState): CrashReport {
  const unsigned = (n: number): bigint => BigInt.asUintN(64, BigInt(n));
  const vcpus = d.vcpus
    .filter((v) => v.initialised)
    .map((v): VcpuReport => {
      const { cpu } = v;
      const sp = cpu.reg(RSP);
      const stack: bigint[] = [];
      for (let i = 0; i < STACK_WORDS; i++) {
        const at = d.engine.translate(v.id, sp + 8 * i, Intent.read);
        if (at < 0 || (at & 4095) > 4088) break;
        stack.push(d.mem.getBig(at));
      }
      return {
        vcpu: v.id,
        userMode: cpu.userMode,
        registers: [
          ['rip', unsigned(cpu.rip)],
          ['rflags', unsigned(cpu.rflags)],
          ...NAMES.map((name, i) => [name, BigInt.asUintN(64, cpu.regBig(i))] as const),
          ['cr2', unsigned(cpu.cr2)],
          ['cr3', BigInt(cpu.userMode ? cpu.cr3User : cpu.cr3Kernel) * 4096n],
          ['fs_base', unsigned(cpu.fsBase)],
          ['gs_base', unsigned(cpu.gsBase)],
        ],
        segments: [
          ['cs', cpu.cs],
          ['ss', cpu.ss],
          ['ds', cpu.ds],
          ['es', cpu.es],
          ['fs', cpu.fs],
          ['gs', cpu.gs],
        ],
        stack,
      };
    });
  const end = d.shutdown;
  const message = end?.message ?? WORDS.get(end?.code ?? -1) ?? `the guest stopped with code ${end?.code}`;
  return { message, vcpu: end?.vcpu ?? 0, vcpus };
}

const REGISTERS_A_LINE = 3;
const STACK_WORDS_A_LINE = 4;

/** Formats the report as lines of text, as Xen prints a domain's registers. */
export function crashText(report: CrashReport): string {
  const word = (value: bigint): string => value.toString(16).padStart(16, '0');
  const rows = <T>(items: readonly T[], each: number, text: (item: T) => string): string[] =>
    Array.from({ length: Math.ceil(items.length / each) }, (_, row) =>
      items
        .slice(row * each, (row + 1) * each)
        .map(text)
        .join('  '),
    );
  const lines = [`vCPU ${report.vcpu}: ${report.message}`];
  for (const v of report.vcpus) {
    lines.push(`vCPU ${v.vcpu}, in ${v.userMode ? 'user' : 'kernel'} mode:`);
    const register = ([name, value]: readonly [string, bigint]) => `${name.padStart(8)} ${word(value)}`;
    lines.push(...rows(v.registers, REGISTERS_A_LINE, register));
    lines.push(
      v.segments
        .map(([name, value]) => `${name.padStart(4)} ${value.toString(16).padStart(4, '0')}`)
        .join(''),
    );
    lines.push('stack from rsp:', ...rows(v.stack, STACK_WORDS_A_LINE, word).map((row) => `  ${row}`));
    if (v.stack.length === 0) lines.push('  cannot be read');
  }
  return `${lines.join('\n')}\n`;
}
