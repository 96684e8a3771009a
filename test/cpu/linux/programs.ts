/** Debian's programs: where they are, and what they print on the processor that runs the test. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchDebian } from '../../../scripts/lib/debian.js';
import { inRoot } from '../../../scripts/lib/root.js';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import { LinuxProcess } from './process.js';

/** 96 MiB. */
const FRAMES = 24_576;

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly input?: Uint8Array;
}

export interface Outcome {
  readonly status: number | null | undefined;
  readonly output: Buffer;
  readonly errors: string;
}

/** Returns Debian's static busybox. */
export async function busybox(applet: string, args: readonly string[], input?: Uint8Array): Promise<Command> {
  const program = join(await fetchDebian(['busybox-static']), 'bin/busybox');
  return { program, args: ['busybox', applet, ...args], input };
}

/** Returns Debian's dynamically linked perl with Debian's C library: the loader runs it, and is told where both are. */
export async function perl(args: readonly string[], input?: Uint8Array): Promise<Command> {
  const root = await fetchDebian(['perl-base', 'libc6', 'libcrypt1']);
  const libraries = join(root, 'lib/x86_64-linux-gnu');
  const program = join(libraries, 'ld-linux-x86-64.so.2');
  return {
    program,
    args: ['ld.so', '--library-path', libraries, join(root, 'usr/bin/perl'), ...args],
    input,
  };
}

/** The environment that programs get, the same everywhere. */
const environment = { PATH: '/bin', LC_ALL: 'C', TZ: 'UTC', PERL_HASH_SEED: '0' };

export function runNatively(command: Command): Outcome {
  const [argv0, ...args] = command.args;
  const r = spawnSync(command.program, args, { argv0, input: command.input, env: environment, cwd: '/' });
  if (r.error) throw r.error;
  return { status: r.status, output: r.stdout, errors: r.stderr.toString() };
}

export async function startOn(
  command: Command,
  machine?: Machine,
): Promise<{ machine: Machine; process: LinuxProcess }> {
  const m = machine ?? (await createMachine(FRAMES));
  const process = new LinuxProcess(m, command.program, {
    args: command.args,
    environment,
    folder: '/',
    input: command.input,
  });
  return { machine: m, process };
}

export function outcomeOf(process: LinuxProcess): Outcome {
  return {
    status: process.status,
    output: Buffer.concat(process.files.output),
    errors: Buffer.concat(process.files.errors).toString(),
  };
}

export async function runOnMachine(command: Command): Promise<Outcome> {
  const { process } = await startOn(command);
  process.run();
  return outcomeOf(process);
}

/** A text from the repository, repeated three times: about 34 KB. */
export function someText(): Buffer {
  const text = readFileSync(inRoot('LICENSE'));
  return Buffer.concat([text, text, text]);
}
