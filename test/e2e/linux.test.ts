/** Tests Debian's kernel with a busybox initramfs as a user runs it: real boots in child processes. */
import { afterEach, describe, expect, test } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { orSkipped } from '../support/debian.js';
import { Session } from '../support/session.js';
import * as checks from './linux-checks.js';

const guests: Guests | undefined = await orSkipped('a Linux that a person runs', ensureGuests());

/** The most memory that the process itself may use beyond the guest's RAM, MiB. */
const OVERHEAD_MIB = 180;
/** The same after a reboot: the JavaScript engine frees the memory of the previous guest when it chooses to. */
const OVERHEAD_AGAIN_MIB = 256;
const BOOT_MS = 600_000;

let session: Session;
afterEach(() => session?.kill());

/** Starts a guest and waits for its shell's prompt. */
async function boot(shape: checks.Shape, ...options: string[]): Promise<Session> {
  session = checks.start(guests!, shape, ...options);
  await session.expect(checks.PROMPT);
  return session;
}

// `npm run soak -- boot` tests what is not here: every end with every shape, friendly and wild.
describe.skipIf(!guests)('Debian Linux', () => {
  test(
    'in 128 MB keeps time, reboots, and powers off',
    async () => {
      const began = Date.now();
      const shape = { memory: 128, vcpus: 1 };
      const guest = await boot(shape);
      await checks.hasItsSize(guest, shape);
      await checks.keepsTime(guest, began);
      expect(guest.peakMemoryMib()).toBeLessThan(128 + OVERHEAD_MIB);
      await checks.comesBack(guest, 'reboot -f');
      expect(guest.peakMemoryMib()).toBeLessThan(128 + OVERHEAD_AGAIN_MIB);
      guest.type('poweroff -f\n');
      expect(await guest.ended).toBe(0);
      expect(guest.errors).not.toMatch(/crash/);
    },
    2 * BOOT_MS,
  );

  test(
    'in 2 GB with four processors does 40 jobs at a time, all with the right result, and reboots',
    async () => {
      const shape = { memory: 2048, vcpus: 4 };
      const guest = await boot(shape, '--on-reboot', 'destroy');
      await checks.hasItsSize(guest, shape);
      await checks.worksInParallel(guest);
      expect(guest.peakMemoryMib()).toBeLessThan(2048 + OVERHEAD_MIB);
      guest.type('reboot -f\n');
      expect(await guest.ended).toBe(0);
    },
    2 * BOOT_MS,
  );

  test(
    'restarts after a crash where that is configured',
    async () => {
      const guest = await boot({ memory: 128, vcpus: 1 }, '--on-crash', 'restart');
      await checks.comesBack(guest, 'echo c > /proc/sysrq-trigger');
      expect(guest.errors).toMatch(/the guest crashed\n/);
      guest.type('poweroff -f\n');
      expect(await guest.ended).toBe(0);
    },
    2 * BOOT_MS,
  );

  test(
    'without the code for a suspend, in 128 MB with four processors, runs the same, and its crash is reported as one',
    async () => {
      const shape = { memory: 128, vcpus: 4, wild: true };
      const guest = await boot(shape);
      expect(await guest.command('dmesg | grep -c "initcall xen_setup_shutdown_event blacklisted"')).toBe(
        '1\n',
      );
      await checks.hasItsSize(guest, shape);
      guest.type('echo c > /proc/sysrq-trigger\n');
      expect(await guest.ended).toBe(10);
      expect(guest.errors).toMatch(/the guest crashed\nvCPU \d: the guest reported a crash of its own\n/);
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
