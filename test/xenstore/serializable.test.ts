import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { XenstoreError } from '../../src/xenstore/core/errno.js';
import type { LocalTransaction, LocalView } from '../../src/xenstore/server/local.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { restoreState } from '../../src/xenstore/state/restore.js';
import { saveState } from '../../src/xenstore/state/save.js';

const CLIENTS = 4;

type Op =
  | { readonly kind: 'read' | 'list' | 'mkdir' | 'remove'; readonly path: string }
  | { readonly kind: 'write'; readonly path: string; readonly value: string };

/** What a client does next: an operation (in its transaction if it has one), a start, a commit, an abort. */
type Move = { readonly client: number; readonly does: Op | 'start' | 'commit' | 'abort' };

const path = fc
  .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 })
  .map((parts) => `/${parts.join('/')}`);
const operation: fc.Arbitrary<Op> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('read' as const, 'list' as const, 'mkdir' as const, 'remove' as const),
    path,
  }),
  fc.record({ kind: fc.constant('write' as const), path, value: fc.constantFrom('1', '2', '3') }),
);
const move: fc.Arbitrary<Move> = fc.record({
  client: fc.nat(CLIENTS - 1),
  does: fc.oneof(
    { weight: 6, arbitrary: operation },
    { weight: 2, arbitrary: fc.constant('start' as const) },
    { weight: 2, arbitrary: fc.constant('commit' as const) },
    { weight: 1, arbitrary: fc.constant('abort' as const) },
  ),
});

/** The simplest possible store: it has no transactions, no sharing and no generations. */
class Model {
  readonly nodes = new Map<string, { value: string; children: string[] }>([
    ['/', { value: '', children: ['tool'] }],
  ]);

  apply(op: Op): string {
    const node = this.nodes.get(op.path);
    if (op.kind === 'read') return node?.value ?? 'ENOENT';
    if (op.kind === 'list') return node?.children.join() ?? 'ENOENT';
    if (op.kind === 'remove') return this.remove(op.path);
    const made = node ?? this.make(op.path);
    if (op.kind === 'write') made.value = op.value;
    return '';
  }

  private parent(p: string): string {
    return p.slice(0, Math.max(1, p.lastIndexOf('/')));
  }

  private make(p: string) {
    const above = this.nodes.get(this.parent(p)) ?? this.make(this.parent(p));
    above.children.push(p.slice(p.lastIndexOf('/') + 1));
    const node = { value: '', children: [] as string[] };
    this.nodes.set(p, node);
    return node;
  }

  private remove(p: string): string {
    const above = this.nodes.get(this.parent(p));
    if (above === undefined) return 'ENOENT';
    for (const key of [...this.nodes.keys()])
      if (key === p || key.startsWith(`${p}/`)) this.nodes.delete(key);
    above.children = above.children.filter((name) => name !== p.slice(p.lastIndexOf('/') + 1));
    return '';
  }
}

function run(view: LocalView, op: Op): string {
  try {
    if (op.kind === 'read') return view.read(op.path);
    if (op.kind === 'list') return view.list(op.path).join();
    if (op.kind === 'write') view.write(op.path, op.value);
    else if (op.kind === 'mkdir') view.mkdir(op.path);
    else view.remove(op.path);
    return '';
  } catch (error) {
    return (error as XenstoreError).code;
  }
}

/** Everything below a path, in order, as one text. */
const dump = (view: LocalView, at = '/'): string =>
  `${at}=${view.read(at)}[${view
    .list(at)
    .map((name) => dump(view, at === '/' ? `/${name}` : `${at}/${name}`))
    .join()}]`;
const dumpModel = (model: Model, at = '/'): string => {
  const { value, children } = model.nodes.get(at)!;
  return `${at}=${value}[${children.map((name) => dumpModel(model, at === '/' ? `/${name}` : `${at}/${name}`)).join()}]`;
};

describe('transactions of several clients', () => {
  test('have the results that they would have had one after another, in the order of their commits', () => {
    let commits = 0;
    let conflicts = 0;
    fc.assert(
      fc.property(fc.array(move, { maxLength: 70, size: 'max' }), (moves) => {
        const server = new XenstoreServer();
        const dom0 = server.local();
        dom0.remove('/tool/xenstored');
        const model = new Model();
        model.nodes.set('/tool', { value: '', children: [] });
        const open = new Map<number, { t: LocalTransaction; did: [Op, string][]; others: number }>();
        let changes = 0;
        const play = (did: readonly [Op, string][]): void => {
          for (const [op, result] of did) expect([op, model.apply(op)]).toEqual([op, result]);
          changes++;
        };
        for (const { client, does } of moves) {
          const own = open.get(client);
          if (does === 'start') {
            if (own === undefined) open.set(client, { t: dom0.begin(), did: [], others: changes });
          } else if (does === 'commit' || does === 'abort') {
            if (own === undefined) continue;
            open.delete(client);
            if (does === 'abort') own.t.abort();
            else if (own.t.commit()) {
              commits++;
              play(own.did);
            } else {
              conflicts++;
              // It cannot fail if nobody did anything meanwhile.
              expect(changes).toBeGreaterThan(own.others);
            }
          } else if (own !== undefined) own.did.push([does, run(own.t, does)]);
          else play([[does, run(dom0, does)]]);
        }
        expect(dump(dom0)).toBe(dumpModel(model));
      }),
      { numRuns: 2500 },
    );
    expect(commits).toBeGreaterThan(500);
    expect(conflicts).toBeGreaterThan(500);
  });

  test('a transaction sees the tree as it was at its start, whatever others do', () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 15 }),
        fc.array(operation, { maxLength: 15 }),
        (before, after) => {
          const dom0 = new XenstoreServer().local();
          for (const op of before) run(dom0, op);
          const t = dom0.begin();
          const seen = dump(dom0);
          for (const op of after) run(dom0, op);
          expect(dump(t)).toBe(seen);
        },
      ),
    );
  });

  test('changes made elsewhere meanwhile are kept, and those of the transaction are added, in the same order of children', () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 12 }),
        fc.array(operation, { maxLength: 12 }),
        (first, inside) => {
          // Once with an unchanged tree, and once with a change elsewhere in it.
          const results = [false, true].map((disturbed) => {
            const dom0 = new XenstoreServer().local();
            dom0.write('/elsewhere/x', '');
            for (const op of first) run(dom0, op);
            const t = dom0.begin();
            for (const op of inside) run(t, op);
            if (disturbed) dom0.write('/elsewhere/x', 'new');
            expect(t.commit()).toBe(true);
            return dump(dom0).replace('/elsewhere/x=new', '/elsewhere/x=');
          });
          expect(results[0]).toBe(results[1]);
        },
      ),
    );
  });

  test('the tree that is saved and restored is the same, with its limits', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    for (let i = 0; i < 500; i++) dom0.write(`/many/${i % 40}/${i}`, `v${i}`);
    dom0.setPermissions('/many/3', ['b3', 'r4', 'w5', 'n6']);
    server.store.accounts.quotas.watches = 77;
    const next = new XenstoreServer();
    restoreState(next, saveState(server));
    expect(dump(next.local())).toBe(dump(dom0));
    expect(next.local().getPermissions('/many/3')).toEqual(['b3', 'r4', 'w5', 'n6']);
    expect(next.store.accounts.quotas.watches).toBe(77);
  });
});
