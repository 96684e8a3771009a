/** `stillpoint wrap`: from the configuration of a PV guest makes that of its helper domain, for xl. */
import { isIPv4 } from 'node:net';
import { type Command, InvalidArgumentError } from 'commander';
import type { CpuLevel } from '../../appliance/cpu-level.js';
import { LIMITS } from '../../guest/config.js';
import { ConfigError } from '../../guest/xl-cfg.js';
import { Failure } from '../../protocol/failure.js';
import { oneOf, whole } from '../arguments.js';
import { printNote } from '../print-note.js';
import { guarded, printJson, printLine } from '../verb.js';

interface MoveOptions {
  readonly listen?: Listen;
  readonly identity?: string;
  readonly ownVif?: string;
  readonly gateway?: string;
}

interface Options extends MoveOptions {
  readonly output?: string;
  readonly appliance?: string;
  readonly kernel?: string;
  readonly level?: CpuLevel;
  readonly overhead?: number;
  readonly json?: boolean;
}

interface Listen {
  readonly address: string;
  readonly prefix: number;
  readonly port: number;
}

/** ADDRESS/PREFIX:PORT */
function listen(text: string): Listen {
  const [, address = '', prefix, port] = /^([0-9.]+)[/](\d{1,2}):(\d{1,5})$/.exec(text) ?? [];
  const found = { address: ipv4(address), prefix: Number(prefix), port: Number(port) };
  if (!(found.prefix >= 1 && found.prefix <= 32 && found.port >= 1 && found.port <= 65_534))
    throw new InvalidArgumentError('a network of 1 to 32 bits and a port from 1 to 65534 are expected.');
  return found;
}

function ipv4(text: string): string {
  if (!isIPv4(text)) throw new InvalidArgumentError('an IPv4 address is expected.');
  return text;
}

function movesOf({ listen, identity, ownVif, gateway }: MoveOptions) {
  if (listen === undefined) {
    if (identity !== undefined || ownVif !== undefined || gateway !== undefined)
      throw new Failure('usage', '--identity, --own-vif and --gateway are for a helper with --listen');
    return undefined;
  }
  if (identity === undefined || ownVif === undefined)
    throw new Failure('usage', '--listen needs --identity and --own-vif');
  if (/(^|,) *(mac|devid)=/.test(ownVif)) throw new Failure('usage', '--own-vif has no mac= and no devid=');
  return { ...listen, identity, vif: ownVif, gateway };
}

/** A mistake in a configuration has its exit status, as with the other verbs. */
export async function withConfigErrors(body: () => void | Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw error instanceof ConfigError ? new Failure('bad-config', error.message) : error;
  }
}

export function register(program: Command): void {
  program
    .command('wrap <file>')
    .description("make the configuration of a PV guest's helper domain on a Xen host (docs/appliance.md)")
    .option(
      '-o, --output <file>',
      "the helper's configuration (GUEST.helper.cfg); its initrd is put beside it",
    )
    .option('--appliance <dir>', 'the folder with vmlinux and initrd (or STILLPOINT_APPLIANCE)')
    .option('--kernel <file>', "a kernel for the guest in place of the configuration's kernel and bootloader")
    .option('--level <level>', 'hide what a level of x86-64 does not have: v2', oneOf<CpuLevel>('v2'))
    .option('--overhead <MiB>', "the helper's memory beside the guest's", whole(1, LIMITS.maxMemoryMib))
    .option('--listen <address/prefix:port>', 'let the guest move to other hosts and come from them', listen)
    .option(
      '--identity <dir>',
      "with --listen: the helper's key and whom it trusts, as `host init` makes them",
    )
    .option('--own-vif <spec>', 'with --listen: a vif for the helper alone, such as bridge=xenbr0')
    .option('--gateway <address>', 'with --listen: the way to other networks', ipv4)
    .option('--json', 'print JSON')
    .action((file: string, { json, overhead, listen, identity, ownVif, gateway, ...options }: Options) =>
      guarded(json, () =>
        withConfigErrors(async () => {
          const { wrapFiles } = await import('../../appliance/wrap-files.js');
          const moves = movesOf({ listen, identity, ownVif, gateway });
          const result = await wrapFiles({ file, overheadMib: overhead, moves, ...options });
          for (const warning of result.warnings) printNote(warning);
          if (json === true) printJson(result);
          else printLine(`${result.config}: ${result.memoryMib} MiB, with ${result.initrd}`);
        }),
      ),
    );
}
