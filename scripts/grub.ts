// npm run grub [-- DIR]: makes the image of GRUB with which guests boot from their own disks (scripts/lib/grub.ts), and says
// where it is. With DIR, a copy with its licence is put there: /usr/local/lib/stillpoint on a host, boot-loader/ before the
// package is published.
import { resolve } from 'node:path';
import { NoPackages } from './lib/debian.js';
import { copyGrub, ensureGrub } from './lib/grub.js';

try {
  const build = await ensureGrub();
  const [given] = process.argv.slice(2);
  if (given !== undefined) copyGrub(build, given);
  console.log(`${build.from}\n${given === undefined ? build.dir : resolve(given)}`);
} catch (e) {
  if (!(e instanceof NoPackages)) throw e;
  console.error(`stillpoint: ${e.message}`);
  process.exitCode = 1;
}
