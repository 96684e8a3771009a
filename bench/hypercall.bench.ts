// npm run bench -- hypercall [--json]: what the hypervisor costs.
//   In a small kernel, ns for each: xen_version, an event to itself, a page fault into the guest's handler and back,
//   one page-table update. An empty loop of the same length is measured in between and subtracted.
//   In Linux user space, ns for each by its own clock: getppid, a touched page, fork + exit + wait, a pipe round
//   trip. Linux needs .cache/guests (npm run guests); without it a message says that this part is missing.
import { existsSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { writeCpio } from '../src/appliance/cpio.js';
import { type Contender, interleave, report } from './harness.js';
import { bootLinux, tinyKernel } from './lib/bench-guests.js';
import { benchProgram } from './lib/bench-program.js';

const LOOPS = 200_000;

// Each body runs LOOPS times; rbx is the counter, r12 to r15 are free.
const KERNELS = {
  'empty loop': '',
  xen_version: 'xor edi, edi\nxor esi, esi\nmov eax, 17\nsyscall',
  'event to self': 'mov edi, 4\nlea rsi, [ipi]\nmov eax, 32\nsyscall',
  update_va_mapping: 'mov rdi, 0x600000\nmov rsi, r13\nmov edx, 2\nmov eax, 14\nsyscall',
  'page fault and iret': 'mov rax, 0x900000\nmov rdx, [rax]',
};

const kernels: Record<string, Contender> = {};
for (const [name, body] of Object.entries(KERNELS)) kernels[name] = () => tinyKernel(body, LOOPS);
const times = await interleave(kernels, 5);
const empty = times['empty loop'].median;
for (const name of Object.keys(KERNELS).slice(1)) {
  const ns = ((times[name].median - empty) / LOOPS) * 1e9;
  report('hypercall', name, ns, 'ns', { 'per second': Math.round(1e9 / ns) });
}

const guests = '.cache/guests';
if (!existsSync(`${guests}/vmlinuz`) || !existsSync(`${guests}/initramfs.cpio.gz`)) {
  console.error('Linux: left out, .cache/guests is not there (npm run guests)');
} else {
  const initramfs = Buffer.concat([
    readFileSync(`${guests}/initramfs.cpio.gz`),
    gzipSync(writeCpio([{ path: 'bench', mode: 0o755, data: benchProgram() }])),
  ]);
  const { text } = await bootLinux(readFileSync(`${guests}/vmlinuz`), initramfs, '/bench; poweroff -f\n');
  for (const [, name, ns] of text.matchAll(/^BENCH (.+): (\d+)\r?$/gm)) {
    report('hypercall', `Linux: ${name}`, Number(ns), 'ns');
  }
}
