// Makes the real guests of tests, benches and the demo (scripts/lib/guests.ts), and prints where they are.
import { NoPackages } from './lib/debian.js';
import { ensureGuests } from './lib/guests.js';

try {
  for (const [name, file] of Object.entries(await ensureGuests())) console.log(`${name}: ${file}`);
} catch (e) {
  if (!(e instanceof NoPackages)) throw e;
  console.error(`stillpoint: ${e.message}`);
  process.exitCode = 1;
}
