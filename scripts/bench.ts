// npm run bench -- NAME [--json]: runs bench/NAME.bench.ts.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { ROOT } from './lib/root.js';

process.chdir(ROOT);
const END = '.bench.ts';
const names = readdirSync('bench')
  .filter((file) => file.endsWith(END))
  .map((file) => file.slice(0, -END.length))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  console.error(`usage: npm run bench -- NAME [--json]\nbenches: ${names.join(', ')}`);
  process.exit(2);
}
const { status } = spawnSync(process.execPath, [`build/bench/${name}.bench.js`, ...rest], {
  stdio: 'inherit',
});
process.exit(status ?? 1);
