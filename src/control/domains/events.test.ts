import { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import type { DomainEvent } from '../../protocol/control.js';
import { Rpc } from '../../protocol/rpc.js';
import { DomainEvents } from './events.js';

it('keeps no more events than its limit for a slow reader, and tells the reader how many were dropped', async () => {
  const taken: Buffer[] = [];
  let takes = false;
  let wake: () => void = () => {};
  const stream = new Duplex({
    read: () => {},
    write(bytes, _encoding, done) {
      taken.push(bytes);
      if (takes) done();
      else wake = done;
    },
  });
  const rpc = new Rpc(stream, {});
  const events = new DomainEvents();
  events.add(rpc);
  const event = (n: number): DomainEvent => ({
    change: 'ended',
    domid: 1,
    name: 'guest',
    uuid: '00000000-0000-4000-8000-000000000000',
    details: `${n} ${'x'.repeat(1000)}`,
  });
  for (let n = 0; n < 1000; n++) events.tell(event(n));
  expect(rpc.unsent).toBeLessThan(300 << 10);
  takes = true;
  wake();
  await new Promise((done) => setImmediate(done));
  expect(rpc.unsent).toBe(0);
  const told = taken.length;
  events.tell(event(1000));
  const { with: said } = JSON.parse(taken.at(-1)!.toString());
  expect(said).toMatchObject({ details: expect.stringMatching(/^1000 /), missed: 1000 - told });
  // A reader who has closed is told nothing more.
  rpc.destroy();
  events.tell(event(1001));
  expect(taken.length).toBe(told + 1);
});
