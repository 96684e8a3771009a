/**
 * The sending thread of a move: reads the guest's RAM in place (it is shared), checksums it and writes it to the
 * data connection, while the guest runs on the main thread. Spoken to by WorkerSender, one request at a time.
 */
import { getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { type DataAddress, openData, socketSink, taken } from './data-channel.js';
import type { SenderRequest, SenderResponse } from './sender-protocol.js';
import { StreamWriter } from './stream-writer.js';

/** The guest's own thread goes first where there are too few processors: this one yields to it. */
const NICE = 5;
try {
  // On Linux this is the thread's own.
  setPriority(0, Math.min(19, getPriority(0) + NICE));
} catch {
  // Not allowed here; then it competes.
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
// The other side has nothing to say on this connection; its end is all there is to hear.
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
