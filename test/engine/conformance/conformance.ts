/**
 * What an engine must do for the hypervisor above it, as tests that take any engine: they get a factory and use only
 * what src/engine/engine.ts promises. They do not test what an engine declares that it cannot do (its abilities).
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
