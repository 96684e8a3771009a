/**
 * The program of a helper domain. Init (init.ts) starts it with the domain's console as its standard input and output,
 * tells it by two signals what dom0 asks for, and ends the domain after it.
 *
 *     node dist/appliance/main.js [PLACES.json]
 */
import { HelperDomain } from './helper-domain.js';
import { readPlaces } from './places.js';

const log = (line: string): void => void process.stderr.write(`${line}\n`);

try {
  const { stdin: input, stdout: output } = process;
  const helper = new HelperDomain(readPlaces(process.argv[2]), { input, output, log });
  process.on('SIGUSR2', () => helper.ask('poweroff'));
  process.on('SIGHUP', () => helper.ask('reboot'));
  await helper.run();
  process.exit(0);
} catch (error) {
  log(`stillpoint: ${(error as Error).message}`);
  process.exit(1);
}
