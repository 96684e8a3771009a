/**
 * The rehearsal of a move: a small practice guest is powered on, runs for some milliseconds, and is stopped, saved,
 * restored and run again. Nothing of it is shown to anybody or kept. Its purpose is to make the JavaScript engine
 * compile the code of all these steps while the memory of the real guest is still being copied. Code that runs for
 * the first time has to be compiled first, which takes longer than the work itself; without a rehearsal that would
 * happen while the real guest is stopped.
 */
import type { CreateEngine } from '../engine/engine.js';
import type { Host } from '../host/host.js';
import { Guest, type GuestSurroundings } from './guest.js';
import { practiceKernel } from './practice-kernel.js';

const MEMORY_MIB = 4;
const SLICE_NS = 2_000_000;
/** How many slices the practice guest runs: enough for its hot code to be translated. */
const SLICES = 25;

/** Lets other tasks of the event loop run. */
type Breathe = () => Promise<void>;

/**
 * Only the clock and the identity of `host` are used; its xenstore stays untouched. `engine` makes engines of the kind
 * that the guests of this process run on.
 */
export async function rehearse(host: Host, engine: CreateEngine, breathe: Breathe): Promise<void> {
  const silent: GuestSurroundings = { engine, console: () => true, log: () => {}, wake: () => {} };
  const { identity, clock, pretended, domid, links } = host;
  const { storePort, consolePort, storeFrame, consoleFrame } = host;
  const rings = { storePort, consolePort, storeFrame, consoleFrame };
  const store = { write: () => {}, onChange: () => {} };
  const nowhere: Host = { identity, clock, pretended, domid, links, ...rings, store };
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
