/** How Node's engine treats the WebAssembly that guests' code becomes. */
import { setFlagsFromString } from 'node:v8';
import { compileCore } from '../engine/wasm/machine.js';

const FLAGS = [
  // Whole modules are compiled by the engine's own threads, not each function when the guest first comes to it.
  '--no-wasm-lazy-compilation',
  // A guest's code is optimised sooner than the 1 800 000 (about a byte of code executed each) of the engine.
  '--wasm-tiering-budget=300000',
];

/**
 * For all modules that are compiled from now on. The core is optimised at once (some 0.1 s), not when it has become hot:
 * a guest that arrives would run slowly meanwhile. Without dynamic tiering the engine optimises a whole module while it
 * compiles it. To take its baseline compiler away (--no-liftoff) would do the same, but V8 14 ends the process then: its
 * optimiser looks for what the baseline code would have counted.
 */
export function tuneEngine(): void {
  for (const flag of FLAGS) setFlagsFromString(flag);
  setFlagsFromString('--no-wasm-dynamic-tiering');
  compileCore();
  setFlagsFromString('--wasm-dynamic-tiering');
}
