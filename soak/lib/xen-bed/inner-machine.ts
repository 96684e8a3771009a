// The idea's first way, as a peer: Xen, a small dom0 and the wild guest in one machine, which is migrated as a whole from
// one QEMU to another on this machine. The machine is the bed itself, as small as it works.
import { ramdiskWithPrograms } from '../../../scripts/lib/daemons.js';
import type { Guests } from '../../../scripts/lib/guests.js';
import { VERDICT, verdictIn } from '../../../src/demo/verdict.js';
import type { MachineMoved } from './monitor.js';
import { XenBed } from './xen-bed.js';
import { XlGuest } from './xl-guest.js';

const GUEST = 'inner';
const GUEST_MIB = 128;
/** What dom0 needs until it can make a guest, and the whole machine with what Xen keeps for itself, MiB. */
const DOM0_MIB = 256;
const MACHINE_MIB = 512;
const BOOT_S = 400;
const SAY_S = 240;
const MOVES = 2;

export interface InnerMachine {
  /** From QEMU's start to the guest's shell, s. */
  readonly shellS: number;
  readonly beyondMib: number;
  readonly moves: readonly MachineMoved[];
  readonly differences: number;
  /** How far the guest's wall clock is from this machine's after the moves, s: the machine's clocks stood still. */
  readonly wallClockS: number;
}

export async function innerMachine(guests: Guests): Promise<InnerMachine> {
  const config = [
    `name = "${GUEST}"`,
    'kernel = "/s/vmlinux"',
    'ramdisk = "/s/initramfs"',
    'extra = "console=hvc0 rdinit=/init quiet initcall_blacklist=xen_setup_shutdown_event"',
    `memory = ${GUEST_MIB}`,
    '',
  ];
  const began = performance.now();
  let bed = await XenBed.up({
    memory: MACHINE_MIB,
    dom0Memory: DOM0_MIB,
    files: {
      vmlinux: guests.vmlinux,
      initramfs: ramdiskWithPrograms(guests.initramfs),
      [`${GUEST}.cfg`]: Buffer.from(config.join('\n')),
    },
  });
  try {
    const before = new XlGuest(bed, GUEST);
    await before.create();
    await before.until(/guest# /, BOOT_S);
    const shellS = (performance.now() - began) / 1000;
    await before.type('observer 500 0\n');
    await before.until(/OBS START/, BOOT_S);
    const moves: MachineMoved[] = [];
    for (let i = 0; i < MOVES; i++) {
      const { bed: there, moved } = await bed.migrate();
      bed = there;
      moves.push(moved);
    }
    const guest = new XlGuest(bed, GUEST);
    const asked = Date.now();
    await guest.type('v\n');
    const { differences, realNs } = verdictIn(await guest.until(VERDICT, SAY_S));
    const wallClockS = Math.max(0, asked - realNs / 1e6, realNs / 1e6 - Date.now()) / 1000;
    return {
      shellS,
      beyondMib: MACHINE_MIB - GUEST_MIB,
      moves,
      differences,
      wallClockS,
    };
  } catch (error) {
    throw await bed.judged(error);
  } finally {
    await bed.down();
  }
}
