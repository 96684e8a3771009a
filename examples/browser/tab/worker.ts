/**
 * The worker in which the guest runs: the small kernel boots, looks at everything that it can see, and powers off. Nothing
 * here is of Node: the core (`src/records` to `src/helper`) is all that is needed.
 */
import { smallKernelElf } from '../../../src/demo/small-kernel.js';
import { wasmEngine } from '../../../src/engine/engines.js';
import { Guest } from '../../../src/helper/guest.js';
import { tabHost } from './host.js';
import type { FromWorker, ToWorker } from './messages.js';

/** It looks every 10 ms, so often. */
const SAMPLES = 200;
const SLICE_NS = 5e6;
const LONGEST_SLEEP_MS = 1000;

const tell = (message: FromWorker): void => postMessage(message);
let wake = (): void => undefined;

/** Until so many milliseconds have passed, or something has happened that the guest may wait for. */
const sleep = (ms: number): Promise<void> =>
  new Promise((done) => {
    const timer = setTimeout(done, ms);
    wake = () => {
      clearTimeout(timer);
      done();
    };
  });

async function run(): Promise<string> {
  const decoder = new TextDecoder('latin1');
  const guest = await Guest.powerOn(
    {
      name: 'tab',
      uuid: crypto.getRandomValues(new Uint8Array(16)),
      memoryMib: 16,
      vcpus: 1,
      image: {
        kernel: smallKernelElf(),
        ramdisk: undefined,
        cmdline: `interval_ms=10 samples=${SAMPLES}`,
      },
      kernelName: 'small-kernel',
      ramdiskName: '',
    },
    tabHost(),
    {
      engine: wasmEngine(),
      console: (bytes) => {
        tell({ console: decoder.decode(bytes) });
        return true;
      },
      log: (line) => tell({ console: `(log) ${line}\n` }),
      wake: () => wake(),
    },
  );
  const { domain } = guest;
  domain.backend.onNotify = () => wake();
  addEventListener('message', ({ data }: MessageEvent<ToWorker>) => {
    guest.console.type(new TextEncoder().encode(data.type));
    wake();
  });
  await guest.attach();
  guest.start();
  for (;;) {
    const slice = guest.run(SLICE_NS);
    if (slice.state === 'shutdown') return slice.message ?? slice.reason;
    const idleNs =
      slice.state === 'idle' ? (slice.wakeAt ?? Number.POSITIVE_INFINITY) - domain.clock.now() : 0;
    await sleep(Math.min(Math.max(0, idleNs / 1e6), LONGEST_SLEEP_MS));
  }
}

run().then(
  (ended) => tell({ ended }),
  (error: unknown) => tell({ ended: `failed: ${error instanceof Error ? error.message : String(error)}` }),
);
