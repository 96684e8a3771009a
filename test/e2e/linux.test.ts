/** Debian's kernel with a busybox initramfs, as a person runs it: real boots, in child processes. */
import { afterEach, describe, expect, test } from 'vitest';
import { ensureGuests, type Guests, NoPackages } from '../../scripts/fetch-guests.mjs';
import { Session } from '../support/session.js';

const guests: Guests | undefined = await ensureGuests().catch((e) => {
  if (!(e instanceof NoPackages)) throw e;
  console.warn(`skipped: ${e.message}`);
  return undefined;
});

/**
 * Beyond the guest's RAM: what the process itself may take at its highest, MiB. That is while it boots, with the kernel
 * unpacked twice and the translator at work; the aim is 150.
 */
const OVERHEAD_MIB = 256;
const BOOT_MS = 600_000;

let session: Session;
afterEach(() => session?.kill());

/** A guest at its shell's prompt. */
async function boot(memory: number, vcpus: number, extra: string, ...options: string[]): Promise<Session> {
  session = new Session([
    ...['--kernel', guests!.vmlinuz!, '--ramdisk', guests!.initramfs!],
    ...['--extra', `console=hvc0 ${extra} rdinit=/init`],
    ...['--memory', String(memory), '--vcpus', String(vcpus), ...options],
  ]);
  await session.expect(/guest# /);
  return session;
}

const seconds = (text: string): number => Number(/[\d.]+/.exec(text)![0]);

describe.skipIf(!guests)('Debian Linux', () => {
  test(
    'in 128 MB keeps time, and powers off',
    async () => {
      const started = Date.now();
      const guest = await boot(128, 1, 'loglevel=4');
      const bootS = (Date.now() - started) / 1000;
      // Its clocks against each other, and against ours.
      const before = seconds(await guest.command('cat /proc/uptime'));
      const asked = Date.now() / 1000;
      const epoch = Number(await guest.command('date +%s'));
      const answered = Date.now() / 1000;
      // Until it has its clock source Linux counts ticks, and misses those that a busy machine withholds.
      expect(epoch).toBeGreaterThan(asked - bootS - 2);
      expect(epoch).toBeLessThan(answered + 2);
      const after = seconds(await guest.command('sleep 2; cat /proc/uptime'));
      expect(after - before).toBeGreaterThanOrEqual(2);
      expect(await guest.command('date -u -d @86400 +%Y-%m-%dT%H:%M:%S')).toBe('1970-01-02T00:00:00\n');
      const top = await guest.command('top -b -n 1');
      expect(top).toMatch(/^Mem: \d+K used, \d+K free/);
      expect(top).toMatch(/CPU: +\d+% usr +\d+% sys/);
      expect(top).toMatch(/^ +1 +0 +(0|root) .*init/m);
      expect(guest.peakMemoryMib()).toBeLessThan(128 + OVERHEAD_MIB);
      guest.type('poweroff -f\n');
      expect(await guest.ended).toBe(0);
      expect(guest.errors).not.toMatch(/crash/);
    },
    BOOT_MS,
  );

  test(
    'in 2 GB with four processors does 40 jobs at a time, each of them right, and reboots',
    async () => {
      const guest = await boot(2048, 4, 'loglevel=4', '--on-reboot', 'destroy');
      expect(await guest.command('grep -c ^processor /proc/cpuinfo')).toBe('4\n');
      expect(seconds(await guest.command('grep MemTotal /proc/meminfo'))).toBeGreaterThan(1_900_000);
      await guest.command('head -c 100000 /bin/busybox > /tmp/data');
      const digest = await guest.command('md5sum < /tmp/data');
      await guest.command(
        'for i in $(seq 40); do (gzip < /tmp/data | gunzip | md5sum > /tmp/sum.$i) & done; wait',
      );
      expect(await guest.command('cat /tmp/sum.* | sort | uniq -c')).toBe(`     40 ${digest}`);
      expect(guest.peakMemoryMib()).toBeLessThan(2048 + OVERHEAD_MIB);
      guest.type('reboot -f\n');
      expect(await guest.ended).toBe(0);
    },
    2 * BOOT_MS,
  );

  test(
    'without the code for a suspend runs the same, and a crash of it is one',
    async () => {
      const guest = await boot(128, 1, 'loglevel=4 initcall_blacklist=xen_setup_shutdown_event');
      expect(await guest.command('dmesg | grep -c "initcall xen_setup_shutdown_event blacklisted"')).toBe(
        '1\n',
      );
      expect(await guest.command('echo $((6 * 7))')).toBe('42\n');
      guest.type('echo c > /proc/sysrq-trigger\n');
      expect(await guest.ended).toBe(10);
      expect(guest.errors).toMatch(/the guest crashed\nvCPU 0: the guest reported a crash of its own\n/);
      expect(guest.errors).toMatch(/ rip ffffffff8[0-9a-f]{7} /);
      expect(guest.output).toMatch(/sysrq triggered crash/);
    },
    BOOT_MS,
  );
});

describe.skipIf(!guests)('GRUB', () => {
  test('reaches its prompt and answers what is typed', async () => {
    session = new Session(['--kernel', guests!.grub!, '--memory', '64']);
    await session.expect(/grub> /);
    session.type('echo stillpoint-$grub_platform\r');
    await session.expect(/stillpoint-xen/);
    session.type('set\r');
    await session.expect(/grub_cpu=x86_64[\s\S]*grub> /);
    session.type('halt\r');
    expect(await session.ended).toBe(0);
  }, 60_000);
});
