/**
 * Compares what the demo's small kernel observes of Xen here with what it observed on a real Xen 4.17.7, line by line.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { wasmEngine } from '../../src/engine/engines.js';
import { Guest } from '../../src/helper/guest.js';
import { openSingleHost } from '../../src/host/standalone/single-host.js';

/** The numbers (from 1) of lines that must differ: they depend on the machine, the guest or the processor. */
const DIFFERENT: Record<string, readonly number[]> = {
  'machine frames: shared_info, store, console, cr3, an entry of a page table, a grant frame': [
    6, 8, 10, 17, 18, 20,
  ],
  'the far ends of store and console: ports of domain 0': [26, 29],
  'its domain id, at an unbound port and in xenstore': [38, 105, 119],
  'its uuid': [68, 107],
  'the highest page of the machine': [69],
  'the processor: CPUID leaves 0, 1, 7, 0x80000000 to 0x80000003': [85, 86, 89, 94, 95, 96, 97],
  'the TSC: emulated at 1 GHz here, native there (leaf 0x40000003)': [103],
  'the console, as the toolstack of that host has it, and ring references': [124, 126, 129],
};

async function view(): Promise<string[]> {
  let out = '';
  const guest = await Guest.powerOn(
    {
      name: 'small',
      uuid: new Uint8Array(16),
      memoryMib: 16,
      vcpus: 1,
      image: { kernel: smallKernelElf(), cmdline: 'interval_ms=10 samples=0' },
      kernelName: '',
      ramdiskName: '',
      nsPerInstruction: 1,
    },
    openSingleHost('small'),
    {
      engine: wasmEngine(),
      console: (bytes) => {
        out += Buffer.from(bytes).toString('latin1');
        return true;
      },
      log: () => undefined,
      wake: () => undefined,
    },
  );
  await guest.attach();
  guest.start();
  guest.run(50e6);
  out = '';
  guest.console.type(Buffer.from('d'));
  guest.run(200e6);
  await guest.detach();
  return out.split('\n');
}

describe('the small kernel', () => {
  test('observes of its Xen what it observed of a real one, except what depends on the machine', async () => {
    const file = new URL('../reference/small-kernel-view-on-xen-4.17.bin', import.meta.url);
    const real = readFileSync(file).toString('latin1').split('\n');
    const ours = await view();
    expect(ours.length).toBe(real.length);
    const differ = ours.flatMap((line, i) => (line === real[i] ? [] : [i + 1]));
    const may = Object.values(DIFFERENT).flat();
    expect(differ.sort((a, b) => a - b)).toEqual(may.sort((a, b) => a - b));
  });
});
