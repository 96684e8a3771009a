/**
 * The engines that there are, as factories: the only place that knows them. Whoever starts a guest chooses one, with
 * options of its own, and hands it on; all else knows src/engine/engine.ts alone.
 */
import type { EngineConfig } from './engine.js';
import { compileCore, type FullProfile, Machine, type Tier, type WasmOptions } from './wasm/machine.js';

export type { FullProfile, Tier, WasmOptions };
/** The engine of WebAssembly, with what only it can tell. */
export type WasmEngine = Machine;

/** Makes engines that execute instructions by WebAssembly. */
export const wasmEngine =
  (options: WasmOptions = {}) =>
  (config: EngineConfig): Promise<WasmEngine> =>
    Machine.create(config, options);

/** Compiles what all of them have in common, as the system around is set at this moment; once in a process. */
export function compileWasmEngine(): void {
  compileCore();
}
