/** The thread that reads /dev/xen/xenbus. It posts the bytes as they come, and ends after the last answer (xenbus.ts). */
import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

export interface XenbusReaderData {
  readonly fd: number;
  /** 1: the next bytes are the last. */
  readonly stop: Int32Array;
}

const { fd, stop } = workerData as XenbusReaderData;
const into = new Uint8Array(8192);
for (;;) {
  const bytes = readSync(fd, into, 0, into.length, null);
  if (bytes === 0 || Atomics.load(stop, 0) === 1) break;
  parentPort?.postMessage(into.slice(0, bytes));
}
