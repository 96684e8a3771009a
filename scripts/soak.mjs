// npm run soak -- NAME [arguments]: long runs, by soak/NAME.mjs. Each prints its seed and what it found.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const names = existsSync('soak') ? readdirSync('soak').filter((f) => f.endsWith('.mjs')) : [];
const [name, ...rest] = process.argv.slice(2);
if (name === undefined || !names.includes(`${name}.mjs`)) {
  console.error(
    `usage: npm run soak -- NAME\nsoaks: ${names
      .map((f) => f.slice(0, -4))
      .sort()
      .join(', ')}`,
  );
  process.exit(2);
}
spawnSync(process.execPath, ['scripts/setup.mjs'], { stdio: ['ignore', 2, 2] });
process.exit(spawnSync(process.execPath, [`soak/${name}.mjs`, ...rest], { stdio: 'inherit' }).status ?? 1);
