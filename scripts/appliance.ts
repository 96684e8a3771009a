// npm run appliance: makes the image of helper domains (scripts/lib/appliance.ts), and says where it is and how large.
import { statSync } from 'node:fs';
import { ensureAppliance } from './lib/appliance.js';
import { NoPackages } from './lib/debian.js';

const MIB = 2 ** 20;
try {
  const { dir, vmlinux, initrd, version } = await ensureAppliance();
  const mib = (file: string) => `${(statSync(file).size / MIB).toFixed(1)} MiB`;
  const { stillpoint, kernel, node } = version;
  console.log(`Stillpoint ${stillpoint}, Linux ${kernel}, Node ${node}`);
  console.log(`vmlinux ${mib(vmlinux)}, initrd ${mib(initrd)}`);
  console.log(dir);
} catch (e) {
  if (!(e instanceof NoPackages)) throw e;
  console.error(`stillpoint: ${e.message}`);
  process.exitCode = 1;
}
