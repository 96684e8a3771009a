// npm run soak -- node [VERSION...]: under each supported Node, the demo with its ten moves, and the processor's tests
// in the tiers interpreter and translate. `--quick`: only the tests of one tier.
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { ensureNode, NODE_VERSIONS } from '../scripts/lib/node-versions.js';
import { type SoakRow, soaked } from './lib/soaked.js';

const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const tiers = process.argv.includes('--quick') ? ['translate'] : ['interpreter', 'translate'];
const MINUTES = 60_000;
/** Whatever takes longer than this hangs, however busy the machine is. */
const DEMO_MINUTES = 30;
const TESTS_MINUTES = 90;

/** Runs one of our scripts under this Node, and so what it starts by the name `node`. */
function run(node: string, minutes: number, ...args: string[]) {
  return spawnSync(node, args, {
    encoding: 'utf8',
    timeout: minutes * MINUTES,
    killSignal: 'SIGTERM',
    maxBuffer: 64 << 20,
    env: { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` },
  });
}

/** The part of the demo's last line that is used here. */
interface DemoFigures {
  readonly moves: number;
  readonly differences: number;
  readonly clocksBackwards: number;
  readonly computationRight: boolean;
}

/** The demo's whole output, in its order; its last line has the figures. */
function demo(node: string): number {
  const { stdout, stderr, status, signal } = run(node, DEMO_MINUTES, 'build/scripts/demo.js', '--json');
  const last = stdout.trimEnd().split('\n').at(-1) ?? '';
  try {
    const { moves, differences, clocksBackwards, computationRight } = JSON.parse(last) as DemoFigures;
    if (status === 0 && moves === 10 && differences === 0 && clocksBackwards === 0 && computationRight)
      return stderr === '' ? 0 : complain(`it says beside its figures: ${stderr}`);
  } catch {
    // The last line is printed below.
  }
  return complain(`status ${status ?? signal}, last words: ${stdout.slice(-2000)}${stderr.slice(-2000)}`);
}

function complain(text: string): number {
  console.log(text);
  return 1;
}

const rows: SoakRow[] = [];
for (const version of asked.length > 0 ? asked : NODE_VERSIONS) {
  const node = await ensureNode(version);
  const began = performance.now();
  rows.push({
    property: `the demo runs and ends with its figures, Node ${version}`,
    cases: 1,
    failures: demo(node),
  });
  const tests = [
    'node_modules/vitest/vitest.mjs',
    'run',
    `--testTimeout=${TESTS_MINUTES * MINUTES}`,
    ...tiers.flatMap((tier) => ['--project', tier]),
  ];
  const { status, stdout } = run(node, TESTS_MINUTES, ...tests);
  if (status !== 0) console.log(stdout.slice(-4000));
  const count = Number(/Tests .*?(\d+) passed/.exec(stdout)?.[1] ?? 0);
  rows.push({
    property: `the processor's tests (${tiers.join(', ')}), Node ${version}`,
    cases: Math.max(1, count),
    failures: status === 0 && count > 0 ? 0 : 1,
  });
  console.log(`Node ${version}: ${((performance.now() - began) / 1000).toFixed(0)} s`);
}
soaked(rows);
