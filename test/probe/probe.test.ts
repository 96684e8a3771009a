/**
 * Compares the probe's hypercalls, made here, with what a real Xen 4.17.7 (Debian 12, amd64, in an unprivileged PV
 * domain of one vCPU and 64 MiB, the first that was created) answered to the same kernel. To record the answers again,
 * write probeKernel() to a file, boot it there, and keep the console's log.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { wasmEngine } from '../../src/engine/engines.js';
import { Guest } from '../../src/helper/guest.js';
import { openSingleHost } from '../../src/host/standalone/single-host.js';
import { CALLS } from './calls.js';
import { probeKernel } from './kernel.js';

/** "NAME: RESULT OUTPUT...", one line for each call. */
const recorded = readFileSync(new URL('../reference/hypercalls-on-xen-4.17.txt', import.meta.url), 'utf8')
  .trimEnd()
  .split('\n');

/** Calls whose answers differ on purpose, with the reason. All others are equal, bit for bit. */
const DIFFERENT: Record<string, readonly string[]> = {
  "a machine's own figures, of which every guest here has its own constant": [
    'evtchn status 1', // the far end's port, in domain 0
    'evtchn status 2',
    'memory_op 2 zeros', // maximum_ram_page
  ],
  'the guest is alone in its memory: a page that it can write may also hold a page table or descriptors': [
    'mmuext_op pin ordinary page as l1',
    'set_gdt one',
    'set_gdt 512',
    'update_va_mapping writable, to descriptors',
  ],
  'no devices and no interrupts of the host: what depends on which the host has': [
    'physdev_op 19 ones',
    'physdev_op 20 ones',
    'physdev_op 21 ones',
    'physdev_op 23 zeros',
    'physdev_op 23 ones',
    'physdev_op 27 ones',
  ],
};

async function answers(): Promise<string[]> {
  let out = '';
  const guest = await Guest.powerOn(
    {
      name: 'probe',
      uuid: new Uint8Array(16),
      memoryMib: 64,
      vcpus: 1,
      image: { kernel: probeKernel(), cmdline: '' },
      kernelName: '',
      ramdiskName: '',
      nsPerInstruction: 1,
    },
    openSingleHost('probe'),
    {
      engine: wasmEngine(),
      console: (bytes) => {
        out += String.fromCharCode(...bytes);
        return true;
      },
      log: () => undefined,
      wake: () => undefined,
    },
  );
  await guest.attach();
  guest.start();
  const end = guest.run(60e9);
  await guest.detach();
  // It does not end as a poweroff, because one of the calls has set another code before.
  expect(end.state).toBe('shutdown');
  const lines = out.trimEnd().split('\r\n');
  expect(lines.pop()).toBe('PROBE ENDED');
  expect(lines.length).toBe(CALLS.length);
  return lines.map((line, i) => `${CALLS[i].name}: ${line.slice(17)}`);
}

describe('hypercalls with good and bad arguments', () => {
  test('are answered as real Xen 4.17 answered them, except those that differ on purpose', async () => {
    const ours = await answers();
    const name = (line: string): string => line.slice(0, line.lastIndexOf(': '));
    expect(recorded.map(name)).toEqual(CALLS.map((call) => call.name));
    const differ = ours.filter((line, i) => line !== recorded[i]).map(name);
    expect(differ.sort()).toEqual(Object.values(DIFFERENT).flat().sort());
  });
});
