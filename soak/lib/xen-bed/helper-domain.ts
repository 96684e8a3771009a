// Helper domains in the bed: a guest's configuration is wrapped as an administrator would do it, and its files are put
// where dom0 finds them.
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Appliance } from '../../../scripts/lib/appliance.js';
import { type CpioEntry, writeCpio } from '../../../src/appliance/cpio.js';
import { type WrapRequest, wrapFiles } from '../../../src/appliance/wrap-files.js';

/** The appliance's kernel in dom0's folder /s. */
export const APPLIANCE_KERNEL = 'appliance-vmlinux';

export interface HelperDomain {
  /** HELPER.cfg, with dom0's paths. */
  readonly config: string;
  /** The initrd, which belongs into dom0's folder /s as NAME.initrd. */
  readonly initrd: Buffer;
  readonly memoryMib: number;
}

export interface HelperOptions {
  readonly name: string;
  /** xl.cfg of the guest, without its name. */
  readonly guest: string;
  /** The kernel and ramdisk that it names, by those names: the bytes, or a file of this machine. */
  readonly guestFiles: Readonly<Record<string, Uint8Array | string>>;
  /** Files that take the place of the appliance's own, or are put beside them. */
  readonly files?: readonly CpioEntry[];
  /** Words for the helper's own Linux. */
  readonly kernelWords?: string;
  readonly moves?: WrapRequest['moves'];
}

export async function helperDomain(appliance: Appliance, options: HelperOptions): Promise<HelperDomain> {
  const dir = mkdtempSync(join(tmpdir(), 'helper-'));
  try {
    const file = join(dir, 'guest.cfg');
    writeFileSync(file, `name = "${options.name}"\n${options.guest}`);
    for (const [name, from] of Object.entries(options.guestFiles))
      if (typeof from === 'string') copyFileSync(from, join(dir, name));
      else writeFileSync(join(dir, name), from);
    const made = await wrapFiles({ file, appliance: appliance.dir, moves: options.moves });
    if (options.files !== undefined) appendFileSync(made.initrd, writeCpio(options.files));
    const config = readFileSync(made.config, 'utf8')
      .replace(/^kernel = .*$/m, `kernel = "/s/${APPLIANCE_KERNEL}"`)
      .replace(/^ramdisk = .*$/m, `ramdisk = "/s/${options.name}.initrd"`)
      .replace(/^cmdline = "(.*)"$/m, `cmdline = "$1 ${options.kernelWords ?? ''}"`);
    return { config, initrd: readFileSync(made.initrd), memoryMib: made.memoryMib };
  } finally {
    rmSync(dir, { recursive: true });
  }
}
