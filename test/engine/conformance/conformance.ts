/**
 * What an engine must do for the hypervisor above it, in tests that take any engine: a factory goes in, and nothing is
 * asked but what src/engine/engine.ts promises. What an engine says that it cannot do (its abilities) is not asked of it.
 */
import { describe } from 'vitest';
import type { CreateEngine } from '../../../src/engine/engine.js';
import { exits } from './exits.js';
import { memory } from './memory.js';
import { registers } from './registers.js';
import { running } from './running.js';
import { state } from './state.js';
import { tables } from './tables.js';

export function conformance(name: string, create: CreateEngine): void {
  describe(name, () => {
    registers(create);
    exits(create);
    running(create);
    memory(create);
    tables(create);
    state(create);
  });
}
