/**
 * Factories of all engines: the only module that knows them. Whoever starts a guest chooses an engine and its options
 * and passes the factory on; all other code knows only src/engine/engine.ts.
 */
import type { EngineConfig } from './engine.js';
import { compileCore, type FullProfile, Machine, type Tier, type WasmOptions } from './wasm/machine.js';

export type { FullProfile, Tier, WasmOptions };
/** The WebAssembly engine, with the methods that only it has. */
export type WasmEngine = Machine;

/** Makes engines that execute instructions with WebAssembly. */
export const wasmEngine =
  (options: WasmOptions = {}) =>
  (config: EngineConfig): Promise<WasmEngine> =>
    Machine.create(config, options);

/** Compiles the code that all of them share, with V8's settings at this moment; once in a process. */
export function compileWasmEngine(): void {
  compileCore();
}
