// npm run soak -- boot: Debian's kernel in 128 MB and in 2 GB, with 1 and with 4 processors, friendly and wild, under
// `stillpoint run`: its size, its clocks, its boot log compared with that on real Xen, 40 jobs at a time; and every
// end: a crash and a reboot that restart it, poweroff, and a crash and a reboot that end it, with their exit status.

import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import * as checks from '../test/e2e/linux-checks.js';
import { type SoakCount, soaked } from './lib/soaked.js';

const { PROMPT, start } = checks;
type Shape = checks.Shape;
const guests = await ensureGuests();
const CRASH = 'echo c > /proc/sysrq-trigger';

const properties = new Map<string, SoakCount>();
/** Runs one check of a property; a failure is printed and counted. */
async function check(property: string, where: string, run: () => unknown): Promise<void> {
  const row = properties.get(property) ?? { property, cases: 0, failures: 0 };
  properties.set(property, row);
  row.cases++;
  try {
    await run();
  } catch (error) {
    row.failures++;
    console.log(`${where}: ${property}: ${messageOf(error)}`);
  }
}

async function ends(
  shape: Shape,
  where: string,
  typed: string,
  status: number,
  ...options: string[]
): Promise<void> {
  await check('Linux ends as configured, with the exit status for it', where, async () => {
    const guest = start(guests, shape, ...options);
    try {
      await guest.expect(PROMPT);
      guest.type(`${typed}\n`);
      const got = await guest.ended;
      if (got !== status) throw new Error(`${typed}: exit status ${got} instead of ${status}`);
    } finally {
      guest.kill();
    }
  });
}

for (const memory of [128, 2048])
  for (const vcpus of [1, 4])
    for (const wild of [false, true]) {
      const shape = { memory, vcpus, wild };
      const where = `${memory} MB, ${vcpus} vCPUs, ${wild ? 'wild' : 'friendly'}`;
      const began = performance.now();
      const on = Date.now();
      const guest = start(guests, shape, '--on-crash', 'restart', '--on-reboot', 'restart');
      try {
        await check('Linux boots to its shell', where, () => guest.expect(PROMPT));
        await check('Linux has the size it was given', where, () => checks.hasItsSize(guest, shape));
        await check('Linux says what it says on real Xen', where, () => checks.saysWhatItSaysOnXen(guest));
        await check('the clocks of Linux are right', where, () => checks.keepsTime(guest, on));
        await check('40 jobs at a time are all right', where, () => checks.worksInParallel(guest));
        await check('a crash restarts Linux', where, () => checks.comesBack(guest, CRASH));
        await check('a reboot restarts Linux', where, () => checks.comesBack(guest, 'reboot -f'));
        await check('Linux ends as configured, with the exit status for it', where, async () => {
          guest.type('poweroff -f\n');
          const got = await guest.ended;
          if (got !== 0) throw new Error(`poweroff: exit status ${got}`);
        });
      } finally {
        guest.kill();
      }
      await ends(shape, where, CRASH, 10);
      await ends(shape, where, 'reboot -f', 0, '--on-reboot', 'destroy');
      console.log(`${where}: ${((performance.now() - began) / 1000).toFixed(0)} s`);
    }
soaked([...properties.values()]);
