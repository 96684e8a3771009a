// npm run appliance [-- DIR]: makes the image of helper domains (scripts/lib/appliance.ts), and says where it is and how
// large. With DIR, a copy is put there: builds in .cache make way for later ones, and hosts need it for as long as there
// are helper domains of it.
import { copyFileSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { APPLIANCE_FILES, ensureAppliance } from './lib/appliance.js';
import { NoPackages } from './lib/debian.js';

const MIB = 2 ** 20;
try {
  const { dir, vmlinux, initrd, version } = await ensureAppliance();
  const mib = (file: string) => `${(statSync(file).size / MIB).toFixed(1)} MiB`;
  const { stillpoint, kernel, node } = version;
  console.log(`Stillpoint ${stillpoint}, Linux ${kernel}, Node ${node}`);
  console.log(`vmlinux ${mib(vmlinux)}, initrd ${mib(initrd)}`);
  const [given] = process.argv.slice(2);
  if (given === undefined) console.log(dir);
  else {
    mkdirSync(given, { recursive: true });
    for (const name of APPLIANCE_FILES) {
      copyFileSync(join(dir, name), join(given, `${name}.part`));
      renameSync(join(given, `${name}.part`), join(given, name));
    }
    console.log(resolve(given));
  }
} catch (e) {
  if (!(e instanceof NoPackages)) throw e;
  console.error(`stillpoint: ${e.message}`);
  process.exitCode = 1;
}
