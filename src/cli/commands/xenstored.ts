/** `stillpoint xenstored`: a xenstore on a unix socket, for Xen's own clients and for the client of this package. */
import { appendFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { XenstoreServer } from '../../xenstore/server/server.js';
import { Journal } from '../../xenstore/socket/journal.js';
import { SocketServer } from '../../xenstore/socket/socket-server.js';

interface Options {
  readonly socket: string;
  readonly state?: string;
}

/** If a file that a client named cannot be written, the program continues. */
function inFile(file: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    console.error(`xenstored: ${file} cannot be written: ${(error as Error).message}`);
  }
}

async function run(options: Options): Promise<void> {
  let logFile: string | undefined;
  const server = new XenstoreServer({
    log(line) {
      if (logFile === undefined) console.error(line);
      else
        inFile(logFile, () =>
          appendFileSync(logFile!, `${new Date().toISOString()} ${line}\n`, { mode: 0o600 }),
        );
    },
    logTo(file) {
      logFile = resolve(file);
    },
    writeReport(file, text) {
      inFile(file, () => writeFileSync(file, text, { mode: 0o600 }));
    },
  });
  const journal = options.state === undefined ? undefined : new Journal(server, resolve(options.state));
  const beforeSend = (): void => {
    try {
      journal?.commit();
    } catch (error) {
      // The program ends, because nothing may be acknowledged that is not durable.
      console.error(`xenstored: ${options.state} cannot be written: ${(error as Error).message}`);
      process.exit(1);
    }
  };
  const sockets = await SocketServer.listen(server, options.socket, { beforeSend });
  const end = (): void => {
    process.off('SIGTERM', end).off('SIGINT', end);
    void sockets.close().then(() => journal?.close());
  };
  process.on('SIGTERM', end).on('SIGINT', end);
  console.log(`xenstored: listening on ${options.socket}`);
}

export function register(program: Command): void {
  program
    .command('xenstored')
    .description('a xenstore on a unix socket (set XENSTORED_PATH to it for xenstore-ls and friends)')
    .requiredOption('--socket <path>', 'where to listen; only this user may connect')
    .option('--state <file>', 'keep the tree in this file over restarts')
    .action((options: Options) =>
      run(options).catch((error: Error) => {
        console.error(`xenstored: ${error.message}`);
        process.exitCode = 1;
      }),
    );
}
