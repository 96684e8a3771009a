/**
 * Tests the example of a guest in a browser tab without a browser: the worker's script runs with only those globals
 * that the core declares (src/web.d.ts). `npm run soak -- browser` runs it in Chromium.
 */
import { readFileSync } from 'node:fs';
import vm from 'node:vm';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { bundle } from '../../examples/browser/bundle.js';
import type { FromWorker } from '../../examples/browser/tab/messages.js';

/** Globals of a browser's worker that the example uses in addition to those that the core declares. */
const OF_THE_EXAMPLE = ['crypto'];
const declared = [
  ...readFileSync(new URL('../../src/web.d.ts', import.meta.url), 'utf8').matchAll(
    /^declare (?:function|class|const) (\w+)/gm,
  ),
].map(([, name]) => name);
const language = vm.runInNewContext('Object.getOwnPropertyNames(globalThis)') as string[];

/** Runs in a thread of its own: all other globals are removed, then the script runs. */
const RUNNER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { allowed, script } = workerData;
  const post = (message) => parentPort.postMessage(message);
  for (const name of Object.getOwnPropertyNames(globalThis))
    if (!allowed.includes(name)) delete globalThis[name];
  const names = ['require', 'module', 'exports', '__dirname', '__filename'];
  new Function('postMessage', 'addEventListener', ...names, script)(post, () => {});
`;

test('the small kernel boots in a script without anything of Node, and powers off', async () => {
  const script = await bundle('worker');
  const allowed = [...language, ...declared, ...OF_THE_EXAMPLE, 'WebAssembly', 'SharedArrayBuffer'];
  const worker = new Worker(RUNNER, { eval: true, workerData: { allowed, script } });
  let printed = '';
  const ended = await new Promise<string>((done, fail) => {
    worker.on('message', (message: FromWorker) => {
      if ('console' in message) printed += message.console;
      else done(message.ended);
    });
    worker.on('error', fail);
    worker.on('exit', () => fail(new Error(`it ended without a word; its guest printed ${printed}`)));
  });
  await worker.terminate();
  expect(ended).toBe('poweroff');
  expect(printed).toMatch(/OBS START/);
  expect(printed).toMatch(/OBS VERDICT n=200 .*back=0 diff=0/);
});
