/**
 * Becomes a guest process in its sandbox: `guest-launcher.js HIDDEN RUNNER`, in the guest's own directory. A process of
 * Node's has threads from its beginning, and Landlock binds only the thread that asks for it; so this one restricts
 * itself and then executes Node anew. HIDDEN: a directory that the guest process shall not see, or "".
 */
import { fileURLToPath } from 'node:url';
import { loadLibc } from './libc.js';
import { restrict } from './sandbox.js';

/** What links of disks and networks start; Node itself is executed once more, below. */
const PROGRAMS = ['flock', 'fallocate', 'blkdiscard', 'qemu-nbd', 'ip'];
/** Input, output, errors, kernel, ramdisk. */
const DESCRIPTORS = 5;
const ENTRY = fileURLToPath(new URL('./guest-process.js', import.meta.url));

const [hidden, runner] = process.argv.slice(2);
const libc = await loadLibc();
if (libc === undefined) process.stderr.write('sandbox: none, as koffi is not installed\n');
else {
  const missing = restrict(libc, {
    programs: [process.execPath, ...PROGRAMS],
    hidden: hidden === '' ? undefined : { directory: hidden, own: process.cwd() },
  });
  if (missing.length > 0) process.stderr.write(`sandbox: this machine has no ${missing.join(', no ')}\n`);
  for (let descriptor = 0; descriptor < DESCRIPTORS; descriptor++) libc.keepOpen(descriptor);
  libc.execve(process.execPath, [process.execPath, ...process.execArgv, ENTRY, runner]);
  process.stderr.write('sandbox: Node cannot be executed anew\n');
}
// Without a sandbox: here and now.
process.argv.splice(1, 2, ENTRY);
await import('./guest-process.js');
