/**
 * A rehearsal of a move, with a guest of no meaning on a host of no meaning: power-on, some milliseconds of its life,
 * stop, save, restore, life. Code that a process runs for the first time is compiled then, which takes longer than
 * the work itself; the place for that is while a guest's memory is copied, not while the guest stands still.
 */
import type { CreateEngine } from '../engine/engine.js';
import type { Host } from '../host/host.js';
import { Guest, type GuestSurroundings } from './guest.js';
import { practiceKernel } from './practice-kernel.js';

const MEMORY_MIB = 4;
const SLICE_NS = 2_000_000;
/** Slices of its life: until what is warm has been translated. */
const SLICES = 25;

/** Lets others have their turn. */
type Breathe = () => Promise<void>;

/** `host` lends its clock; nothing of it is taken. `engine`: what guests of this process run on. */
export async function rehearse(
  { identity, clock, ...rest }: Host,
  engine: CreateEngine,
  breathe: Breathe,
): Promise<void> {
  const silent: GuestSurroundings = { engine, console: () => true, log: () => {}, wake: () => {} };
  const nowhere: Host = { ...rest, identity, clock, store: { write: () => {}, onChange: () => {} } };
  const image = { kernel: practiceKernel(), cmdline: '' };
  await breathe();
  const spec = { name: 'rehearsal', uuid: new Uint8Array(16), memoryMib: MEMORY_MIB, vcpus: 1, image };
  const here = await Guest.powerOn({ ...spec, kernelName: '', ramdiskName: '' }, nowhere, silent);
  await breathe();
  await live(here, breathe);
  await here.pause();
  const state = here.saveState();
  const there = await Guest.empty(here.describe(), nowhere, silent);
  there.ram.set(here.ram);
  await breathe();
  there.restoreState(state, { least: 0, most: 0 });
  await live(there, breathe);
  await here.detach();
  await there.detach();
}

async function live(guest: Guest, breathe: Breathe): Promise<void> {
  await guest.attach();
  guest.start();
  for (let i = 0; i < SLICES; i++) {
    guest.run(SLICE_NS);
    await breathe();
  }
}
