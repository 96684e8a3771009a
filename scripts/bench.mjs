// npm run bench -- NAME [--json]: runs bench/NAME.ts (compiled on the fly by vitest's transformer is not
// honest for timings, so benches import from dist/).
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const names = readdirSync('bench')
  .filter((f) => f.endsWith('.bench.mjs'))
  .map((f) => f.slice(0, -10))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (name === undefined || !existsSync(`bench/${name}.bench.mjs`)) {
  console.error(`usage: npm run bench -- NAME [--json]\nbenches: ${names.join(', ') || '(none yet)'}`);
  process.exit(2);
}
spawnSync(process.execPath, ['scripts/setup.mjs'], { stdio: ['ignore', 2, 2] });
process.exit(
  spawnSync(process.execPath, [`bench/${name}.bench.mjs`, ...rest], { stdio: 'inherit' }).status ?? 1,
);
