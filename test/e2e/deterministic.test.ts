import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { wasmEngine } from '../../src/engine/engines.js';
import { Guest } from '../../src/helper/guest.js';
import { openSingleHost } from '../../src/host/standalone/single-host.js';
import type { Nanoseconds } from '../../src/xen/types.js';
import { orSkipped } from '../support/debian.js';
import { differences } from './dmesg.js';

const guests: Guests | undefined = await orSkipped('a Linux whose time counts instructions', ensureGuests());

/**
 * Boots Linux to its shell with the instruction clock, in slices of `sliceNs`. Returns its memory and all other state.
 */
async function boot(sliceNs: number): Promise<{ ram: Uint8Array; state: Uint8Array; output: string }> {
  let output = '';
  const host = openSingleHost('deterministic');
  const guest = await Guest.powerOn(
    {
      name: 'deterministic',
      uuid: new Uint8Array(16),
      memoryMib: 128,
      vcpus: 1,
      image: {
        kernel: readFileSync(guests!.vmlinuz!),
        ramdisk: readFileSync(guests!.initramfs!),
        cmdline:
          'console=hvc0 loglevel=7 rdinit=/init stillpoint.run="dmesg; date; head -c 20 /dev/urandom | md5sum"',
      },
      kernelName: 'vmlinuz',
      ramdiskName: 'initramfs',
      nsPerInstruction: 1,
    },
    // Nothing of the host changes: its clocks do not advance.
    { ...host, clock: { tscKhz: 1e6, uptime: () => 0 as Nanoseconds, wallClock: () => 1e18 as Nanoseconds } },
    {
      engine: wasmEngine(),
      console: (bytes) => {
        output += Buffer.from(bytes).toString('latin1');
        return true;
      },
      log: () => undefined,
      wake: () => undefined,
    },
  );
  await guest.attach();
  guest.start();
  const END_NS = 8e9;
  while (guest.domain.clock.now() < END_NS) {
    const limit = Math.min(sliceNs, END_NS - guest.domain.clock.now());
    expect(guest.run(limit).state).not.toBe('shutdown');
  }
  await guest.pause();
  const state = guest.saveState();
  await guest.detach();
  return { ram: guest.ram, state, output };
}

const REFERENCE = new URL('../reference/linux-6.1-dmesg-on-xen-4.17.txt', import.meta.url);

describe.skipIf(!guests)('Debian Linux with time that counts instructions', () => {
  test('prints what it prints on real Xen, and two runs end with the same memory, byte for byte', async () => {
    const one = await boot(2e6);
    const other = await boot(7e6);
    expect(one.output).toMatch(/Sep {2}9 01:46:\d\d UTC 2001[\s\S]*[0-9a-f]{32} {2}-[\s\S]*guest# /);
    expect(other.output).toBe(one.output);
    // What it reports about its machine is the same as on real Xen. dmesg prints everything after init's prompt.
    const log = one.output.slice(one.output.indexOf('GUEST-READY'));
    expect(differences(readFileSync(REFERENCE, 'latin1'), log)).toEqual({ missing: [], added: [] });
    expect(Buffer.compare(one.ram, other.ram)).toBe(0);
    expect(Buffer.compare(one.state, other.state)).toBe(0);
  }, 600_000);
});
