/**
 * The sending thread of a move. While the guest runs on the main thread, this thread reads the guest's RAM (which is
 * shared), computes checksums and writes to the data connection. WorkerSender sends it one request at a time.
 */
import { getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { type DataAddress, openData, socketSink, taken } from './data-channel.js';
import type { SenderRequest, SenderResponse } from './sender-protocol.js';
import { StreamWriter } from './stream-writer.js';

/** If there are too few processors, the guest's own thread has priority over this one. */
const NICE = 5;
try {
  // On Linux this sets the priority of the thread only.
  setPriority(0, Math.min(19, getPriority(0) + NICE));
} catch {
  // The priority may not be changed here; the threads then compete.
}

const { address, ram, frames, answerMs } = workerData as {
  address: DataAddress;
  ram: Uint8Array;
  frames: number;
  answerMs: number;
};
const port = parentPort!;
let ending = false;
const say = (response: SenderResponse): void => port.postMessage(response);

const socket = await openData(address);
socket.on('error', (error) => {
  if (!ending) say({ failed: `the data connection failed: ${error.message}` });
});
// The other side sends nothing on this connection. Only its end is of interest.
socket.on('end', () => {
  if (!ending) say({ failed: 'the destination closed the data connection' });
});
socket.resume();
const sink = socketSink(socket, answerMs);
const writer = new StreamWriter(sink);

async function serve(request: SenderRequest): Promise<SenderResponse> {
  switch (request.do) {
    case 'begin':
      await writer.begin(request.head, request.description);
      return {};
    case 'disk':
      await writer.disk(request.devid, request.bytes);
      return {};
    case 'blocks':
      await writer.blocks(request.devid, request.at, request.data, request.fresh);
      return {};
    case 'round':
      return {
        round: await writer.round(request.round, request.bitmap, request.pages, frames, ram),
      };
    case 'code':
      await writer.code(request.starts);
      return {};
    case 'end':
      ending = true;
      await writer.end(request.state);
      await taken(new Promise<void>((resolve) => socket.end(resolve)), answerMs);
      return { bytes: writer.bytes };
    case 'bandwidth':
      writer.setBandwidth(request.bytesPerSecond);
      return {};
  }
}

port.on('message', (request: SenderRequest) => {
  serve(request).then(
    (response) => {
      if (request.do !== 'bandwidth') say({ ...response, to: request.do });
    },
    (error: Error) => say({ failed: error.message }),
  );
});
say({ to: 'connect' });
