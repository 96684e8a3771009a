// npm run bench -- cpu [--json] [--rounds N] [--tier T] [KERNEL...]: how fast the machine executes instructions.
//   Seven kernels are compiled from C (bench/cpu, by gcc). Each is run by the processor itself, by our machine
//   (paging on, 4 KiB pages, guest user mode, the same program as on the processor), by qemu-x86_64 and by
//   qemu-system-x86_64 (software emulation, paging on), in turn, N rounds (5) after one to warm up. For each kernel
//   the bench reports how many million instructions a second our machine executes, and its time divided by that of
//   the others (below 1: ours is faster). Times are processor time, so that they are meaningful on a busy machine;
//   ours are without V8's compiler threads.
//   The bench fails if results differ from those of the processor, or the number of instructions from QEMU's count.
// --tier interpreter runs without the translator, --tier translate translates everything at once; normal is what guests
// get. QEMU comes from PATH or from Debian's packages; if there is none, a message says that its columns are missing.
import { join } from 'node:path';
import { messageOf } from '../scripts/lib/errors.js';
import { type Contender, interleave, report } from './harness.js';
import { compile, KERNELS } from './lib/cpu-kernels.js';
import { runInMachine } from './lib/cpu-machine.js';
import { type Run, runProgram } from './lib/cpu-program.js';
import { findQemu } from './lib/qemu.js';

const TIERS = ['interpreter', 'translate', 'normal'] as const;
type Tier = (typeof TIERS)[number];
const isTier = (word: string): word is Tier => (TIERS as readonly string[]).includes(word);
const args = process.argv.slice(2).filter((a) => a !== '--json');
const option = (name: string, otherwise: string): string => {
  const at = args.indexOf(name);
  return at < 0 ? otherwise : args.splice(at, 2)[1];
};
const rounds = Number(option('--rounds', '5'));
const tier = option('--tier', 'normal');
const unknown = args.find((a) => !(a in KERNELS));
if (unknown !== undefined || !Number.isInteger(rounds) || rounds < 1 || !isTier(tier)) {
  console.error(
    `usage: npm run bench -- cpu [--json] [--rounds N] [--tier ${TIERS.join('|')}] [KERNEL...]\nkernels: ${Object.keys(KERNELS).join(', ')}`,
  );
  process.exit(2);
}
const names = args.length > 0 ? args : Object.keys(KERNELS);

let folder: string;
try {
  folder = compile();
} catch (error) {
  console.error(`cpu: ${messageOf(error)}`);
  process.exit(1);
}
const qemu = await findQemu();

let failed = false;
const expect = (what: string, value: bigint | number, wanted: bigint | number): void => {
  if (value === wanted) return;
  console.error(`cpu: ${what} gave ${value}, not ${wanted}`);
  failed = true;
};

for (const name of names) {
  const program = join(folder, `${name}.linux`);
  const bare = join(folder, `${name}.bare`);
  const wanted = runProgram([program]).result;
  let instructions = 0;
  const contenders: Record<string, () => Run | Promise<Run>> = {
    native: () => runProgram([program]),
    ours: async () => {
      const r = await runInMachine(program, tier);
      instructions = r.instructions;
      return r;
    },
  };
  const { user, system } = qemu;
  if (user !== undefined) contenders['qemu-x86_64'] = () => runProgram([user, program]);
  if (system !== undefined) contenders['qemu-system-x86_64'] = () => system.run(bare);
  const checked = Object.entries(contenders).map(([who, run]): [string, Contender] => [
    who,
    async () => {
      const r = await run();
      expect(`${name}: the result of ${who}`, r.result, wanted);
      return r.seconds;
    },
  ]);
  const times = await interleave(Object.fromEntries(checked), rounds);
  const counted = await system?.count(bare);
  if (counted !== undefined) expect(`${name}: counting instructions`, instructions, counted);
  const seconds = times['ours'].median;
  const ratios = Object.entries(times)
    .filter(([who]) => who !== 'ours')
    .map(([who, t]) => [`times ${who}`, Number((seconds / t.median).toPrecision(3))]);
  report('cpu', name, instructions / 1e6 / seconds, 'MIPS', {
    seconds: Number(seconds.toPrecision(3)),
    ...Object.fromEntries(ratios),
    instructions,
    'counted by QEMU': counted === undefined ? 'no' : counted === instructions ? 'the same' : counted,
  });
}
process.exit(failed ? 1 : 0);
