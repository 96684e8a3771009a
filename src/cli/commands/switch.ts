/** `stillpoint switch`: a learning switch that vifs of several hosts connect to, with an uplink if it has one. */
import { type Command, InvalidArgumentError } from 'commander';
import { parseLinkAddress, parseSocketAddress } from '../../net/links/address.js';
import { openLink } from '../../net/links/open-link.js';
import { SwitchServer } from '../../net/links/switch-server.js';
import { printableLines } from '../../protocol/printable.js';
import { printNote } from '../print-note.js';

const EXIT_BAD_INPUT = 2;

interface Options {
  readonly listen: string[];
  readonly trunk: string[];
  readonly uplink: string[];
  readonly mode: number;
  readonly quiet?: boolean;
}

const collect = (value: string, all: string[]): string[] => [...all, value];
function octal(value: string): number {
  if (!/^[0-7]{3,4}$/.test(value)) throw new InvalidArgumentError('a file mode, as 660, is expected.');
  return Number.parseInt(value, 8);
}

export function register(program: Command): void {
  program
    .command('switch')
    .description('run a learning switch for the vifs of guests, on this host and on others')
    .requiredOption('--listen <address>', 'unix:PATH or HOST:PORT; may be given several times', collect, [])
    .option('--trunk <address>', 'the same for other switches: any address may come from there', collect, [])
    .option('--uplink <link>', 'passt:PATH, tap:NAME, bridge:NAME, stream:..., switch:...', collect, [])
    .option('--mode <mode>', "mode of a unix socket's file", octal, 0o600)
    .option('--quiet', 'say nothing of ports that come and go')
    .addHelpText(
      'after',
      `
A vif reaches it with the link switch:unix:PATH or switch:HOST:PORT; QEMU with -netdev stream. Whoever can connect is
on the network: over TCP nothing is encrypted or authenticated.`,
    )
    .action(async (options: Options) => {
      const log = (line: string): void => {
        if (options.quiet !== true) process.stderr.write(`stillpoint switch: ${printableLines(line)}\n`);
      };
      const server = new SwitchServer(log);
      const end = (status: number): void => {
        void server.close().then(() => process.exit(status));
      };
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => end(0));
      try {
        for (const link of options.uplink) {
          const address = parseLinkAddress(link);
          await server.uplink((client) => openLink(address, client, log));
        }
        for (const [listen, open] of [
          ...options.listen.map((one) => [one, false] as const),
          ...options.trunk.map((one) => [one, true] as const),
        ]) {
          const port = await server.listen(parseSocketAddress(listen, 'switch'), options.mode, open);
          process.stdout.write(`listening on ${port === 0 ? listen : `port ${port}`}\n`);
        }
      } catch (error) {
        printNote((error as Error).message);
        end(EXIT_BAD_INPUT);
      }
    });
}
