/**
 * Tests that Debian's 32-bit programs in an amd64 guest print what they print natively: busybox here, and bash and perl
 * too with STILLPOINT_LONG, for `npm run soak -- i386`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ensureGuests } from '../../scripts/lib/guests.js';
import { orSkipped } from '../support/debian.js';
import { i386Programs } from './i386.js';
import * as checks from './linux-checks.js';

const LONG = process.env['STILLPOINT_LONG'] !== undefined;
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-i386-'));
afterAll(() => rmSync(dir, { recursive: true }));
const initramfs = join(dir, 'initramfs');
const made = await orSkipped(
  '32-bit programs',
  ensureGuests().then(async (guests) => ({
    guests: { ...guests, initramfs },
    programs: await i386Programs(LONG, guests.initramfs, initramfs),
  })),
);
const programs = made?.programs.filter((p) => p.wanted !== undefined) ?? [];
if (made !== undefined && programs.length < made.programs.length)
  console.warn('stillpoint: not tested: i386 programs, which this machine does not run itself');

test.skipIf(programs.length === 0)(
  `i386 programs print what they print natively: ${programs.map((p) => p.name).join(', ')}`,
  { timeout: 600_000 },
  async () => {
    const guest = checks.start(made!.guests, { memory: 160, vcpus: 1 });
    try {
      await guest.expect(checks.PROMPT);
      for (const { name, command, wanted } of programs) {
        const printed = await guest.command(`${command} < /dev/null`);
        expect(printed, name).toBe(wanted);
      }
    } finally {
      guest.kill();
    }
  },
);
