/**
 * A guest's console on this terminal. First the latest output that the guest's process kept, then what comes.
 * Ends with Ctrl-], with the guest, or with the end of a piped input once the guest has taken all of it.
 */

import { connectDaemon } from './daemon-client.js';
import { Terminal } from './terminal.js';
import { guarded, type VerbOptions } from './verb.js';

/** Typed bytes on their way; more make the terminal wait. */
const MAX_UNSENT_BYTES = 4096;
const RETRY_MS = 20;

export function attachConsole(guest: string, options: VerbOptions): Promise<void> {
  return guarded(options.json, async () => {
    let finish: () => void = () => {};
    const finished = new Promise<void>((done) => {
      finish = done;
    });
    let show: (bytes: Uint8Array) => void = () => {};
    const early: Uint8Array[] = [];
    const rpc = await connectDaemon(
      options,
      (method, params) => {
        if (method !== 'console') return;
        const bytes = Buffer.from(String(params.data), 'base64');
        show(bytes);
      },
      () => finish(),
    );
    show = (bytes) => early.push(bytes);
    const opened = rpc.request<{ latest: string; uuid: string }>('console', { guest });
    opened.catch(() => rpc.close());
    // From here on it is this guest, whatever another one is called or numbered meanwhile.
    const { latest, uuid } = await opened;
    let unsent = Buffer.alloc(0);
    let sending = false;
    let ended = false;
    const send = async (): Promise<void> => {
      if (sending) return;
      sending = true;
      while (unsent.length > 0 && !rpc.closed) {
        const data = unsent.toString('base64');
        const taken = await rpc.request<number>('type', { guest, uuid, data }).catch(() => 0);
        unsent = unsent.subarray(taken);
        if (taken === 0) await new Promise((done) => setTimeout(done, RETRY_MS));
      }
      sending = false;
      if (ended) finish();
    };
    const terminal = new Terminal({
      onInput(bytes) {
        const taken = Math.min(bytes.length, MAX_UNSENT_BYTES - unsent.length);
        unsent = Buffer.concat([unsent, bytes.subarray(0, taken)]);
        void send();
        return taken;
      },
      onEscape: () => finish(),
      onEnd() {
        ended = true;
        if (!sending) finish();
      },
      onDrain: () => {},
    });
    terminal.write(Buffer.from(latest, 'base64'));
    for (const bytes of early) terminal.write(bytes);
    show = (bytes) => terminal.write(bytes);
    rpc.request('gone', { guest, uuid }).then(finish, finish);
    await finished;
    terminal.close();
    rpc.close();
  });
}
