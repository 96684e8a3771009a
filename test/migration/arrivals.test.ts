import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { getPriority } from 'node:os';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { testPort } from '../support/ports.js';
import { TwoHosts, until } from './hosts.js';

const FIRST_PORT = testPort(17_140);
/** True if this machine lets a process lower its priority and raise it again. */
const CAN_YIELD = existsSync('/proc/self/autogroup') || process.getuid?.() === 0;
/** Host B's ports for the data of arriving guests. */
const FIRST_DATA_PORT = FIRST_PORT + 6;

describe('an arriving guest', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await TwoHosts.open(FIRST_PORT);
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  it('takes the next port when one is in use', async () => {
    const other = net.createServer();
    await new Promise<void>((done) => other.listen({ host: '127.0.0.1', port: FIRST_DATA_PORT }, done));
    try {
      const { name } = await hosts.guest();
      await hosts.a.ask('migrate', { guest: name, host: 'B' });
      expect((await hosts.settled(name)).on).toBe('B');
    } finally {
      other.close();
    }
  });

  it.skipIf(!CAN_YIELD)(
    'yields to running guests until its process is ready, and not afterwards',
    async () => {
      const { name } = await hosts.guest();
      hosts.gate('construct');
      const moving = hosts.a.ask('migrate', { guest: name, host: 'B' });
      const priorities = (pid: number): unknown => {
        const group = `/proc/${pid}/autogroup`;
        return [
          getPriority(pid),
          existsSync(group) ? /nice (-?\d+)/.exec(readFileSync(group, 'latin1'))?.[1] : '0',
        ];
      };
      const seen = new Set<string>();
      await until('the guest at B', () => {
        for (const pid of hosts.b.pids()) seen.add(JSON.stringify(priorities(pid)));
        return existsSync(`${hosts.root}/gates/construct.reached`) || undefined;
      });
      const [pid] = hosts.b.pids();
      expect(priorities(pid)).toEqual([getPriority(0), '0']);
      expect(seen.size).toBe(2);
      hosts.openGate('construct');
      await moving;
      expect((await hosts.settled(name)).on).toBe('B');
    },
  );
});
