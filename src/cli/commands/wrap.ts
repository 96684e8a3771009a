/** `stillpoint wrap`: from the configuration of a PV guest makes that of its helper domain, for xl. */
import type { Command } from 'commander';
import type { CpuLevel } from '../../appliance/cpu-level.js';
import { LIMITS } from '../../guest/config.js';
import { ConfigError } from '../../guest/xl-cfg.js';
import { Failure } from '../../protocol/failure.js';
import { oneOf, whole } from '../arguments.js';
import { printNote } from '../print-note.js';
import { guarded, printJson, printLine } from '../verb.js';

interface Options {
  readonly output?: string;
  readonly appliance?: string;
  readonly kernel?: string;
  readonly level?: CpuLevel;
  readonly overhead?: number;
  readonly json?: boolean;
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
    .option('--json', 'print JSON')
    .action((file: string, { json, overhead, ...options }: Options) =>
      guarded(json, () =>
        withConfigErrors(async () => {
          const { wrapFiles } = await import('../../appliance/wrap-files.js');
          const result = await wrapFiles({ file, overheadMib: overhead, ...options });
          for (const warning of result.warnings) printNote(warning);
          if (json === true) printJson(result);
          else printLine(`${result.config}: ${result.memoryMib} MiB, with ${result.initrd}`);
        }),
      ),
    );
}
