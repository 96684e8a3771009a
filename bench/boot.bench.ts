// npm run bench -- boot [--json]: boots Debian's kernel with the test guests' initramfs to the shell's prompt. It
// reports time, instructions, and memory of a process that does nothing else; where qemu-system-x86_64 is installed,
// interleaved with QEMU's TCG on the same kernel and initramfs (as a PC: there the kernel runs without Xen).
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ensureGuests } from '../scripts/lib/guests.js';
import { type Contender, interleave, report } from './harness.js';
import { bootLinux } from './lib/bench-guests.js';

const ROUNDS = 3;
const MEGABYTES = 256;
const guests = await ensureGuests();

// The child process does one boot and prints its figures as JSON.
if (process.argv.includes('--once')) {
  const { seconds, instructions } = await bootLinux(
    readFileSync(guests.vmlinuz),
    readFileSync(guests.initramfs),
    undefined,
    MEGABYTES,
  );
  const peakMib = process.resourceUsage().maxRSS / 1024;
  console.log(JSON.stringify({ seconds, instructions, peakMib }));
  process.exit(0);
}

let instructions = 0;
let peakMib = 0;
const stillpoint = () => {
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), '--once'], { encoding: 'utf8' });
  const figures = JSON.parse(child.stdout.trim().split('\n').at(-1) ?? '') as {
    seconds: number;
    instructions: number;
    peakMib: number;
  };
  ({ instructions, peakMib } = figures);
  return figures.seconds;
};

/** Seconds to the prompt under QEMU. */
const qemu = () =>
  new Promise<number>((done, fail) => {
    const start = performance.now();
    const child = spawn('qemu-system-x86_64', [
      ...[
        '-accel',
        'tcg',
        '-m',
        String(MEGABYTES),
        '-smp',
        '1',
        '-nodefaults',
        '-no-user-config',
        '-display',
        'none',
      ],
      ...['-serial', 'stdio', '-no-reboot', '-kernel', guests.vmlinuz, '-initrd', guests.initramfs],
      ...['-append', 'console=ttyS0 quiet rdinit=/init'],
    ]);
    let text = '';
    child.stdout.on('data', (bytes) => {
      text += bytes.toString('latin1');
      if (!text.includes('guest#')) return;
      child.kill('SIGKILL');
      done((performance.now() - start) / 1000);
    });
    child.on('close', () => fail(new Error(`qemu ended before the prompt:\n${text}`)));
  });

const contenders: Record<string, Contender> = { stillpoint };
if (spawnSync('qemu-system-x86_64', ['--version']).status === 0) contenders['qemu'] = qemu;
else console.error('QEMU: left out, qemu-system-x86_64 is not installed');

const times = await interleave(contenders, ROUNDS);
const ours = times['stillpoint'].median;
report('boot', 'Linux to its shell', ours, 's', {
  'of each round': times['stillpoint'].all.map((t) => t.toFixed(2)).join(' '),
});
report('boot', 'instructions to the shell', instructions, '', {
  'million a second': instructions / ours / 1e6,
});
report('boot', 'process beyond the guest RAM, at most', peakMib - MEGABYTES, 'MiB');
if (times['qemu'] !== undefined) {
  const theirs = times['qemu'].median;
  report('boot', 'QEMU TCG, the same kernel on a PC', theirs, 's', {
    'of each round': times['qemu'].all.map((t) => t.toFixed(2)).join(' '),
    'Stillpoint takes times as long': ours / theirs,
  });
}
