// `node --import ./test/support/register-ts.mjs file.ts` runs TypeScript in a plain Node process: for tests
// that need a child process of their own.
import { register } from 'node:module';

register('./ts-hooks.mjs', import.meta.url);
