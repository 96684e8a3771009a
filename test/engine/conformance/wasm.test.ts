/** Tests that the WebAssembly engine does what an engine must, by interpretation and by translation. */
import { wasmEngine } from '../../../src/engine/engines.js';
import { conformance } from './conformance.js';

const SMALL = { codeCacheBytes: 1 << 20, compilesAtOnce: true } as const;

conformance('the interpreter', wasmEngine({ ...SMALL, tier: 'interpreter' }));
conformance('the normal tier', wasmEngine(SMALL));
