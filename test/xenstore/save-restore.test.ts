import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Connection } from '../../src/xenstore/server/connection.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { restoreState } from '../../src/xenstore/state/restore.js';
import { saveState } from '../../src/xenstore/state/save.js';
import { bytesOf, CLIENTS, newClients, type Say, say } from './conversation.js';

/** What happens to a client: so many bytes of its requests arrive, and so many bytes of its answers leave. */
interface Step {
  readonly client: number;
  readonly arrive: number;
  readonly leave: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  client: fc.nat(CLIENTS - 1),
  arrive: fc.oneof(fc.constantFrom(0, 1, 15, 16, 17), fc.nat(120)),
  leave: fc.oneof(fc.constantFrom(0, 0, 1, 16), fc.nat(200)),
});

/** Runs a conversation; after each step in `saves` the server is saved and another one continues. */
function play(said: readonly Say[], steps: readonly Step[], saves: ReadonlySet<number>): string[] {
  let server = new XenstoreServer();
  let clients: Connection[] = newClients(server);
  const input = clients.map(() => [] as number[]);
  said.forEach((s, i) => {
    input[s.client].push(...bytesOf(s, i));
  });
  const heard = clients.map(() => '');
  const run = (client: number, arrive: number, leave: number): number => {
    const bytes = Uint8Array.from(input[client].slice(0, arrive));
    const read = server.receive(clients[client], bytes, 0, bytes.length);
    server.settle();
    input[client].splice(0, read);
    const out = new Uint8Array(leave);
    const count = clients[client].output.take(out, 0, leave);
    heard[client] += Buffer.from(out.subarray(0, count)).toString('latin1');
    return read + count;
  };
  const save = (): void => {
    const next = new XenstoreServer();
    const { connections } = restoreState(next, saveState(server));
    next.settle();
    expect(Buffer.from(saveState(next)).equals(Buffer.from(saveState(server)))).toBe(true);
    // Domains that were released meanwhile have no client any more.
    const restored = [...connections.values()];
    clients = clients.map((c) => (server.connections.has(c) ? restored.shift()! : c));
    server = next;
  };
  steps.forEach((s, i) => {
    run(s.client, s.arrive, s.leave);
    if (saves.has(i)) save();
  });
  for (let moved = 1; moved > 0; ) {
    moved = 0;
    for (let client = 0; client < CLIENTS; client++) moved += run(client, 50, 100);
  }
  for (const account of server.store.accounts.byDomid.values()) {
    const { nodes, memory } = account;
    server.store.accounts.recount(server.store.tree);
    expect([account.nodes, account.memory]).toEqual([nodes, memory]);
    expect(account.outstanding).toBe(0);
  }
  return heard;
}

describe('a saved and restored xenstore', () => {
  test('gives the same answers as one that was never saved, wherever in the conversation that was', () => {
    fc.assert(
      fc.property(
        fc.array(say, { minLength: 1, maxLength: 80, size: 'max' }),
        fc.array(step, { maxLength: 80, size: 'max' }),
        fc.array(fc.nat(79), { minLength: 2, maxLength: 6 }),
        (said, steps, saves) => {
          expect(play(said, steps, new Set(saves))).toEqual(play(said, steps, new Set()));
        },
      ),
      { numRuns: 800 },
    );
  });

  test('gives the same answers if it is saved after every byte of a conversation', () => {
    const conversation = fc.sample(say, { numRuns: 40, seed: 7 });
    const steps = Array.from({ length: 1500 }, (_, i) => ({ client: i % CLIENTS, arrive: 1, leave: i % 2 }));
    const everywhere = new Set(steps.keys());
    expect(play(conversation, steps, everywhere)).toEqual(play(conversation, steps, new Set()));
  });
});
