/**
 * The program of a helper domain. Init (init.ts) starts it with the domain's console as its standard input and output,
 * tells it by two signals what dom0 asks for, and ends the domain after it.
 *
 *     node dist/appliance/main.js [PLACES.json]
 */
import { loadLibc } from '../os/libc.js';
import { HelperDomain } from './helper-domain.js';
import { readPlaces } from './places.js';

const log = (line: string): void => void process.stderr.write(`${line}\n`);

try {
  const { stdin: input, stdout: output } = process;
  const helper = new HelperDomain(readPlaces(process.argv[2]), { input, output, log });
  process.on('SIGUSR2', () => helper.ask('poweroff'));
  process.on('SIGHUP', () => helper.ask('reboot'));
  if ((await helper.run()) === 'ended') process.exit(0);
  // In the place of this program, with the same process id and streams, so that init watches it as before.
  const libc = await loadLibc();
  for (const descriptor of [0, 1, 2]) libc?.keepOpen(descriptor);
  const argv = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
  libc?.execve(process.execPath, argv, environment);
  throw new Error('the program cannot be started anew');
} catch (error) {
  log(`stillpoint: ${(error as Error).message}`);
  process.exit(1);
}
