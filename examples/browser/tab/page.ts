/** The page: a terminal of the guest's console, and how the guest ended. */
import type { FromWorker, ToWorker } from './messages.js';

const terminal = document.querySelector('pre') as HTMLPreElement;
const state = document.querySelector('output') as HTMLOutputElement;

function show(text: string): void {
  terminal.append(text.replaceAll('\r', ''));
  terminal.scrollTop = terminal.scrollHeight;
}

// Shared memory, which the engine's RAM is, exists only in a page that is isolated from others.
if (!crossOriginIsolated) state.value = 'failed: the page is not cross-origin isolated (COOP and COEP)';
else {
  const worker = new Worker('worker.js');
  worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => {
    if ('console' in data) show(data.console);
    else state.value = `ended: ${data.ended}`;
  });
  worker.addEventListener('error', ({ message }) => {
    state.value = `failed: ${message}`;
  });
  addEventListener('keypress', ({ key }) => {
    const keys: ToWorker = { type: key === 'Enter' ? '\n' : key };
    worker.postMessage(keys);
  });
}
