import { describe, expect, it } from 'vitest';
import type { HostStore } from '../host/host.js';
import { Published, type PublishedPoint } from './published.js';

function shown() {
  const nodes = new Map<string, string>();
  const store: HostStore = {
    write: () => undefined,
    onChange: () => undefined,
    publish: (path, value) => void (value === null ? nodes.delete(path) : nodes.set(path, value)),
  };
  return { nodes, published: new Published(store) };
}
const row = (name: string, outer: string) => {
  return { name, rows: 'S5', inner: 'the same', outer, pretended: false, moves: 0 };
};
const column = (domid: number, outer: Record<string, string>) => {
  return { host: 'h', domid, since: '2026-01-01T00:00:00Z', outer };
};

describe('what a helper shows to dom0', () => {
  it('has one inner value and one outer value for each place; the last is the present one', () => {
    const { nodes, published } = shown();
    published.ledger(
      [row('port', '9')],
      [column(1, { port: '7' }), column(2, { other: '1' }), column(3, { port: '8' })],
    );
    expect(JSON.parse(nodes.get('points/0')!)).toEqual({
      name: 'port',
      rows: 'S5',
      inner: 'the same',
      // A row that an earlier place did not have is empty there; the value of the present place is the latest.
      outer: ['7', '', '9'],
    });
    expect(JSON.parse(nodes.get('hosts')!).map(({ domid }: { domid: number }) => domid)).toEqual([1, 2, 3]);
  });

  it('is cut so that each node fits, whatever the guest makes of its names and values', () => {
    const { nodes, published } = shown();
    const long = '\u{1f600}"\\'.repeat(1000);
    const columns = Array.from({ length: 16 }, (_, i) => column(i, { [long]: long }));
    published.ledger(
      Array.from({ length: 500 }, () => row(long, long)),
      columns,
    );
    published.facts(Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`fact ${i}`, long])));
    for (let i = 0; i < 100; i++) published.log(`${long}\u001b[2J\n`);
    for (const [path, value] of nodes) {
      expect(Buffer.byteLength(value), path).toBeLessThanOrEqual(1800);
      JSON.parse(value);
    }
    expect(nodes.size).toBeLessThan(210);
    const { outer } = JSON.parse(nodes.get('points/0')!) as PublishedPoint;
    expect(outer.length).toBe(16);
  });

  it('loses the rows that are not there any more', () => {
    const { nodes, published } = shown();
    published.ledger([row('a', '1'), row('b', '2'), row('c', '3')], [column(1, {})]);
    published.ledger([row('a', '1')], [column(1, {})]);
    expect([...nodes.keys()].filter((path) => path.startsWith('points/'))).toEqual(['points/0']);
  });

  it('has the latest messages, printable, and all of them when it has settled', async () => {
    const { nodes, published } = shown();
    for (let i = 0; i < 50; i++) published.log(`message ${i} \u001b[2J`);
    expect(nodes.has('log')).toBe(false);
    await published.settled();
    const lines = JSON.parse(nodes.get('log')!) as string[];
    expect(lines.at(-1)).toMatch(/^\d{4}-.*Z message 49 \\x1b\[2J$/);
    expect(lines.length).toBeLessThan(50);
  });
});
