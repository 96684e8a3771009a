/**
 * What all verbs share: options, the connection, and how results and errors reach the caller. Invariant: results go
 * to standard output, everything else to standard error; with --json exactly one JSON value per line; the exit status
 * follows from the error's code (docs/hosts.md).
 */
import type { Command } from 'commander';
import type { Client } from '../client/index.js';
import { describeError, EXIT_STATUS } from '../protocol/failure.js';
import { printableJson, printableLines } from '../protocol/printable.js';
import { connectDaemon, defaultDirectory, type Where } from './daemon-client.js';
import { printNote } from './print-note.js';

export interface VerbOptions extends Where {
  readonly json?: boolean;
}

/** Adds a verb with the options that every verb has. */
export function verb(program: Command, usage: string, description: string): Command {
  return program
    .command(usage)
    .description(description)
    .option('--json', 'print JSON')
    .option('--dir <dir>', "the daemon's directory (or STILLPOINT_DIR)", defaultDirectory())
    .option('--on <host>', 'ask the daemon of another host, by trusted name or HOST:PORT');
}

/** Prints an error and sets the exit status. */
export function fail(error: unknown, json: boolean | undefined): void {
  const { code, message } = describeError(error);
  if (json === true) printJson({ error: { code, message } });
  printNote(message);
  process.exitCode = EXIT_STATUS[code];
}

/** The status that a shell reports for a program that SIGPIPE has ended. */
const EXIT_NO_READER = 141;

/** The reader of our output has closed it (`| head`): the program ends silently. */
export function endWithReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.listenerCount('error') > 0) continue;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      process.exit(EXIT_NO_READER);
    });
  }
}

/** Runs a verb's body and turns an error into a message and an exit status. */
export async function guarded(json: boolean | undefined, body: () => Promise<void>): Promise<void> {
  endWithReader();
  try {
    await body();
  } catch (error) {
    fail(error, json);
  }
}

/** Connects, runs `body`, closes. */
export function withDaemon(options: VerbOptions, body: (client: Client) => Promise<void>): Promise<void> {
  return guarded(options.json, async () => {
    const client = await connectDaemon(options);
    try {
      await body(client);
    } finally {
      client.close();
    }
  });
}

export const printJson = (value: unknown): void => {
  process.stdout.write(`${printableJson(JSON.stringify(value))}\n`);
};
export const printLine = (line: string): void => {
  process.stdout.write(`${printableLines(line)}\n`);
};
