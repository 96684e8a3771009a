/** Settings of V8 for the WebAssembly code into which guests' code is translated. */
import { setFlagsFromString } from 'node:v8';
import { compileWasmEngine } from '../engine/engines.js';

const FLAGS = [
  // Whole modules are compiled by V8's background threads, instead of each function when the guest first calls it.
  '--no-wasm-lazy-compilation',
  // A guest's code is optimised sooner than with V8's default of 1 800 000 (about one for each byte of executed
  // code).
  '--wasm-tiering-budget=300000',
];

/**
 * Applies to all modules that are compiled from now on. The core is optimised at once, which takes about 0.1 s,
 * instead of after it has become hot, because an arriving guest would run slowly until then. Without dynamic tiering
 * V8 optimises a whole module while it compiles it. Switching off the baseline compiler (--no-liftoff) would do the
 * same, but V8 14 then ends the process, because its optimiser looks for counters that the baseline code would have
 * kept.
 */
export function tuneEngine(): void {
  for (const flag of FLAGS) setFlagsFromString(flag);
  setFlagsFromString('--no-wasm-dynamic-tiering');
  compileWasmEngine();
  setFlagsFromString('--wasm-dynamic-tiering');
}
