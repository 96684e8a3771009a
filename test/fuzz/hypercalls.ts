/** Target: a guest's hypercalls, with its page tables, grants, ports and memory as arguments. */
import { CallingGuest, FRAMES, L1, L4, mfn } from '../support/tiny-guest.js';
import type { Choices } from './choices.js';
import type { Target } from './fuzz.js';

const SCRATCH = 0x5_0000;
const SCRATCH_BYTES = 0x4000;
const DOMID_SELF = 0x7ff0;
const SCHED_OP = 29;
/** The number of inputs for one guest before it gets a new machine. */
const LIFE = 200;

/** A word that is often nearly valid. */
function word(c: Choices): number | bigint {
  switch (c.below(16)) {
    case 0:
    case 1:
      return c.below(64);
    case 2:
      return SCRATCH + c.below(SCRATCH_BYTES);
    case 3:
    case 4:
    case 5:
      return SCRATCH + (c.below(SCRATCH_BYTES) & ~7);
    case 6:
      return (BigInt(mfn(c.below(FRAMES + 16))) << 12n) | BigInt(c.below(0x1000));
    case 7:
      return (BigInt(mfn(L1 + c.below(L4 - L1 + 1))) << 12n) | BigInt(c.below(0x1000) & ~3);
    case 8:
      return mfn(c.below(FRAMES + 16));
    case 9:
      return c.below(FRAMES) << 12;
    case 10:
      return c.pick([0, -1, DOMID_SELF, 0x7ff0_7ff0, 0x1000, 0x7fff_ffff, 2 ** 47, 0x8000_0000]);
    case 11:
      return (BigInt(c.word()) << 32n) | BigInt(c.word());
    case 12:
      return 0xffff_8000_0000_0000n | BigInt(c.word());
    default:
      return c.word();
  }
}

export function hypercalls(): Target {
  let calling: CallingGuest | undefined;
  let guards: Uint8Array[] = [];
  let age = 0;
  /** Memory that is not the guest's: the page tables of the machine-to-physical table, and what follows the frames. */
  const looked = ({ guest }: CallingGuest): Uint8Array[] => {
    const { layout, state } = guest.domain;
    const { mem, engine } = state;
    const at = (frame: number): number => engine.ram.linearOf(frame);
    return [
      mem.bytes(at(layout.m2pTables), (layout.total - layout.m2pTables) * 4096).slice(),
      mem.u8.slice(at(layout.total)),
    ];
  };
  return {
    name: 'hypercalls, page tables and grants',
    files: /\/dist\/hypervisor\//,
    most: 400,
    async run(c) {
      if (calling === undefined || age++ > LIFE) {
        calling = await CallingGuest.boot({ vcpus: 2 });
        guards = looked(calling);
        age = 0;
      }
      const { guest } = calling;
      for (let n = 1 + c.below(12); n > 0 && !c.over; n--) {
        for (let words = c.below(8); words > 0; words--)
          guest.setU64(SCRATCH + (c.below(SCRATCH_BYTES) & ~7), BigInt.asUintN(64, BigInt(word(c))));
        const nr = c.below(48);
        if (nr === SCHED_OP && !c.once(8)) continue;
        try {
          calling.call(nr, word(c), word(c), word(c), word(c), word(c));
        } catch (error) {
          // The guest has broken itself, or sleeps, which it may do.
          if (!/the guest ended otherwise/.test((error as Error).message)) throw error;
          age = LIFE + 1;
          break;
        }
      }
      for (const [i, bytes] of looked(calling).entries())
        if (Buffer.compare(bytes, guards[i]) !== 0)
          throw new Error(`memory that is not the guest's has changed (${i})`);
    },
  };
}
