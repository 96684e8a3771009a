/**
 * Rows W4, W5, W7 and W8, on guests whose time counts instructions: kernels without any code for a suspend. W4 is also
 * tested with GRUB, in test/e2e/moves.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import type { GuestSpec } from '../../src/helper/guest.js';
import { VcpuInfo } from '../../src/xen/shared-info.js';
import { programKernel } from '../support/program-kernel.js';
import { difference } from '../twin/compare.js';
import { debian, haveDebian } from '../twin/guests.js';
import { Random } from '../twin/random.js';
import { type Cue, TwinGuest } from '../twin/twin.js';

const MS = 1e6;

const spec = (kernel: Uint8Array, memoryMib: number, cmdline = ''): GuestSpec => ({
  name: 'small',
  uuid: new Uint8Array(16).fill(3),
  memoryMib,
  vcpus: 1,
  image: { kernel, ramdisk: undefined, cmdline },
  kernelName: 'kernel',
  ramdiskName: '',
});

/** The registers of all vCPUs that a move could affect. */
const registers = (twin: TwinGuest): unknown =>
  twin.guest.domain.state.vcpus.map(({ cpu }) => [
    Array.from({ length: 16 }, (_, n) => cpu.regBig(n)),
    cpu.rip,
    cpu.rflags,
    cpu.userMode,
    cpu.retired,
  ]);

/** Runs the same guest twice: one stays, the other goes to the same time by `way`. Returns the differences. */
async function twins(
  of: GuestSpec,
  cues: readonly Cue[],
  untilNs: number,
  way: (moved: TwinGuest) => Promise<void>,
): Promise<TwinGuest> {
  const still = await TwinGuest.powerOn(of, cues);
  const moved = await TwinGuest.powerOn(of, cues);
  await way(moved);
  moved.runTo(untilNs);
  still.runTo(untilNs);
  expect(difference(still, moved)).toBeUndefined();
  return moved;
}

describe('W4: a unikernel with no code for a suspend moves', () => {
  it('one of our own kernels, which looks at everything that it can observe', async () => {
    const cues = [{ output: /OBS n=50[\s\S]*\n/, type: 'v\n' }];
    const moved = await twins(spec(smallKernelElf(), 8, 'interval_ms=10'), cues, 1500 * MS, async (twin) => {
      for (let i = 1; i < 10; i++) {
        twin.runTo(i * 77 * MS);
        await twin.move(new Random(i), 'stream');
      }
    });
    expect(moved.output).toMatch(/OBS VERDICT .* back=0 diff=0/);
  }, 120_000);
});

describe('W5: registers are untouched across a move', () => {
  it('at each of 120 instruction boundaries, including hypercalls and events', async () => {
    let kernel = 0;
    await twins(spec(smallKernelElf(), 8, 'interval_ms=10'), [], 60 * MS, async (twin) => {
      // The first of them is where a timer is about to fire.
      twin.runTo(29.99 * MS);
      for (let i = 0; i < 120; i++) {
        const before = registers(twin);
        await twin.move(new Random(i), 'copy');
        expect(registers(twin)).toEqual(before);
        if (!twin.guest.domain.state.current.cpu.userMode) kernel++;
        // One instruction at a time; then on to another part of the code.
        twin.runTo(twin.now + (i % 40 === 39 ? 9.7 * MS : 1));
      }
    });
    expect(kernel).toBeGreaterThan(0);
  }, 240_000);
});

describe('W7: a guest hung in a loop with events masked', () => {
  it('moves, still in its loop', async () => {
    const kernel = programKernel('xor ebx, ebx\n hang: inc rbx\n jmp hang\n');
    const twin = await TwinGuest.powerOn(spec(kernel, 16), []);
    twin.runTo(5 * MS);
    twin.guest.console.type(Buffer.from('is anybody there?'));
    for (let i = 0; i < 4; i++) {
      const { cpu } = twin.guest.domain.state.vcpus[0];
      const [turns, rip] = [cpu.regBig(3), cpu.rip];
      await twin.move(new Random(i), 'stream');
      const after = twin.guest.domain.state.vcpus[0];
      expect([after.cpu.regBig(3), after.cpu.rip]).toEqual([turns, rip]);
      twin.runTo(twin.now + 2 * MS);
      // There are two instructions in an iteration, and one nanosecond for each instruction.
      expect(after.cpu.regBig(3) - turns).toBe(BigInt(MS));
      const { mem } = twin.guest.domain.engine.ram;
      const { vcpuInfo: info } = after;
      expect([
        mem.getU8(info + VcpuInfo.evtchn_upcall_pending),
        mem.getU8(info + VcpuInfo.evtchn_upcall_mask),
      ]).toEqual([1, 1]);
    }
  }, 60_000);
});

describe.skipIf(!haveDebian())('W8: no guest code runs because of a move', () => {
  it("Debian's kernel executes exactly the same instructions, and finds nothing to react to", async () => {
    const END = 500 * MS;
    await twins(debian(2), [], END, async (twin) => {
      for (let i = 1; i < 6; i++) {
        twin.runTo(i * 90 * MS);
        const before = { registers: registers(twin), ram: Buffer.from(twin.guest.ram) };
        await twin.move(new Random(i), 'copy');
        expect(registers(twin)).toEqual(before.registers);
        expect(Buffer.compare(before.ram, twin.guest.ram)).toBe(0);
      }
    });
  }, 240_000);
});
