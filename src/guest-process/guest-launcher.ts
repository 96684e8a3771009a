/**
 * Becomes a guest process in its sandbox: `guest-launcher.js OPTIONS`, where OPTIONS is a LauncherOptions as JSON, in
 * the guest's own directory. A Node process has several threads from its start, and Landlock restricts only the
 * thread that asks for it; therefore this program restricts itself and then executes Node again.
 */

import { loadLibc } from '../os/libc.js';
import { restrict, type SandboxLimits, type VisibleFiles } from '../os/sandbox.js';
import { check } from '../protocol/check.js';
import { launcherOptions } from '../protocol/daemon-files.js';
import { parseJson } from '../protocol/json.js';
import { GUEST_PROCESS } from './entry-points.js';

export interface LauncherOptions {
  /** URL of the runner module. */
  readonly runner: string;
  /** Null: the process has a user of its own. */
  readonly files: VisibleFiles | null;
  readonly limits: Partial<SandboxLimits>;
  /** True to start even if the process cannot be confined. */
  readonly unconfined: boolean;
}

/** Programs that the links of disks and networks start; Node itself is executed once more, below. */
const PROGRAMS = ['flock', 'fallocate', 'blkdiscard', 'qemu-nbd', 'ip'];
/** Standard input, output and error, kernel, ramdisk, and the socket on which its daemon connects. */
const DESCRIPTORS = 6;
const ANYWAY = 'stillpoint host --unconfined starts guests all the same';

const say = (line: string): void => void process.stderr.write(`sandbox: ${line}\n`);

const { runner, files, limits, unconfined } = check(
  launcherOptions,
  parseJson(process.argv[2]),
  'the options of a guest process',
);
const libc = await loadLibc();
const missing =
  libc === undefined
    ? { vital: ['koffi, which is not installed'], other: [] }
    : restrict(libc, {
        programs: [process.execPath, ...PROGRAMS],
        own: process.cwd(),
        files: files ?? undefined,
        limits: { processes: limits.processes, fileBytes: limits.fileBytes },
      });
for (const what of missing.other) say(`this machine has no ${what}`);
if (missing.vital.length > 0) {
  const lacks = `a guest's process cannot be confined here, for lack of ${missing.vital.join(' and ')}`;
  say(unconfined ? `${lacks}; it runs all the same, as --unconfined was given` : `${lacks}; ${ANYWAY}`);
  if (!unconfined) process.exit(1);
}
if (libc !== undefined) {
  for (let descriptor = 0; descriptor < DESCRIPTORS; descriptor++) libc.keepOpen(descriptor);
  libc.execve(process.execPath, [process.execPath, ...process.execArgv, GUEST_PROCESS, runner]);
  say('Node cannot be executed anew');
  if (!unconfined) process.exit(1);
}
// There is no sandbox, so the program continues in this process.
process.argv.splice(1, 2, GUEST_PROCESS, runner);
await import('./main.js');
