import { lifeOf, live } from './life.js';

const [first, last] = [Number(process.argv[2] ?? 1), Number(process.argv[3] ?? process.argv[2] ?? 1)];
const traces = process.argv.includes('--trace');
const began = performance.now();
const cpu0 = process.cpuUsage();
Error.stackTraceLimit = traces ? 10 : 0;
let failed = 0,
  steps = 0,
  events = 0;
const kinds = new Map<string, number[]>();
const answers = new Map<string, number>();
for (let seed = first; seed <= last; seed++) {
  const out = await live(lifeOf(seed), traces);
  steps += out.steps;
  events += out.events;
  for (const [k, n] of out.answers) answers.set(k, (answers.get(k) ?? 0) + n);
  if (traces) console.log(out.trace.join('\n'));
  if (out.violations.length > 0) {
    failed++;
    const kind = out.violations[0]
      .replaceAll(/\d+(\.\d+)?/g, 'N')
      .replaceAll(/\b[ABC]\b/g, 'H')
      .slice(0, 300);
    kinds.set(kind, [...(kinds.get(kind) ?? []), seed]);
  }
}
const ms = performance.now() - began;
const cpu = process.cpuUsage(cpu0);
console.log('cpu ms', (cpu.user + cpu.system) / 1000);
console.log(Object.fromEntries([...answers].sort()));
for (const [kind, seeds] of [...kinds].sort((a, b) => b[1].length - a[1].length))
  console.log(seeds.length, kind, seeds.slice(0, 5).join(' '));
console.log(
  `${last - first + 1} lives, ${failed} failed, ${steps} steps, ${events} events, ${ms.toFixed(0)} ms, ${(ms / steps).toFixed(3)} ms a step`,
);
process.exit(0);
