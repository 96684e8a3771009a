/**
 * A guest's console on this terminal: first the latest output that the guest's process has kept, then new output. It
 * ends with Ctrl-], with the guest, or with the end of a piped input once the guest has accepted all of it.
 */

import type { GuestConsole } from '../client/index.js';
import { connectDaemon } from './daemon-client.js';
import { Terminal } from './terminal.js';
import { guarded, type VerbOptions } from './verb.js';

/** Typed bytes on their way; if there are more, the terminal waits. */
const MAX_UNSENT_BYTES = 4096;
const RETRY_MS = 20;

export function attachConsole(guest: string, options: VerbOptions): Promise<void> {
  return guarded(options.json, async () => {
    const client = await connectDaemon(options);
    try {
      await attach(await client.console(guest));
    } finally {
      client.close();
    }
  });
}

async function attach(attached: GuestConsole): Promise<void> {
  let finish: () => void = () => {};
  const finished = new Promise<void>((done) => {
    finish = done;
  });
  let unsent = Buffer.alloc(0);
  let sending = false;
  let over = false;
  let ended = false;
  const send = async (): Promise<void> => {
    if (sending) return;
    sending = true;
    while (unsent.length > 0 && !over) {
      const taken = await attached.type(unsent).catch(() => 0);
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
  const show = async (): Promise<void> => {
    for await (const bytes of attached.output) terminal.write(bytes);
  };
  show().then(finish, finish);
  await finished;
  over = true;
  terminal.close();
}
