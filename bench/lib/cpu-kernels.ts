// Compiles the kernels of bench/cpu: each as a static Linux program and as a program for a bare PC.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { codeOf } from '../../scripts/lib/errors.js';
import { inRoot } from '../../scripts/lib/root.js';

const SOURCES = inRoot('bench/cpu/');
const TARGET = inRoot('node_modules/.cache/bench-cpu/');

/** How many iterations each kernel does: about a hundred million instructions. */
export const KERNELS = {
  sha256: 40_000,
  memory: 800,
  list: 12_000_000,
  bubble: 40,
  calls: 31,
  indirect: 8_000_000,
  registers: 20_000_000,
};

// There are no vector instructions and no calls of a C library, so that the instructions are the same everywhere.
const OPTIONS = [
  '-O2',
  '-ffreestanding',
  '-fno-pic',
  '-no-pie',
  '-static',
  '-nostdlib',
  '-fno-stack-protector',
  '-fno-asynchronous-unwind-tables',
  '-fno-tree-vectorize',
  '-fno-tree-loop-distribute-patterns',
  '-fcf-protection=none',
  '-mgeneral-regs-only',
  '-Wl,--build-id=none',
];

function gcc(...args: string[]): void {
  const r = spawnSync('gcc', args, { encoding: 'utf8' });
  if (codeOf(r.error) === 'ENOENT')
    throw new Error('the kernels are written in C: gcc is needed (package gcc)');
  if (r.error) throw r.error;
  if (r.status !== 0) throw new Error(`gcc ${args.join(' ')} failed:\n${r.stderr}`);
}

/** Compiles all kernels. Returns the folder with NAME.linux and NAME.bare. */
export function compile(): string {
  mkdirSync(TARGET, { recursive: true });
  for (const [name, n] of Object.entries(KERNELS)) {
    const own = [...OPTIONS, `-DN=${n}`, `${SOURCES}${name}.c`];
    gcc(...own, `${SOURCES}linux.S`, '-o', `${TARGET}${name}.linux`);
    gcc(
      ...own,
      '-Wl,-Ttext-segment=0x200000',
      '-Wl,-estart',
      `${SOURCES}bare.S`,
      '-o',
      `${TARGET}${name}.bare`,
    );
  }
  return TARGET;
}
