import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { childPath, parentPath } from './path.js';
import { permission } from './permissions.js';
import { Tree } from './tree.js';

const permissions = [permission(0, 0)];

/** Paths and values in the order of the tree, as the simplest possible model. */
type Model = Map<string, string>;

const below = (path: string, top: string): boolean => path === top || path.startsWith(`${top}/`);

function dump(tree: Tree): [string, string][] {
  const all: [string, string][] = [];
  const walk = (path: string): void => {
    const n = tree.find(path)!;
    all.push([path, n.value]);
    for (const name of n.children.names()) {
      expect(tree.find(childPath(path, name))).toBe(n.children.get(name));
      walk(childPath(path, name));
    }
  };
  walk('/');
  return all;
}

function dumpModel(model: Model): [string, string][] {
  const all: [string, string][] = [];
  const walk = (path: string): void => {
    all.push([path, model.get(path)!]);
    for (const other of model.keys()) if (other !== '/' && parentPath(other) === path) walk(other);
  };
  walk('/');
  return all;
}

const path = fc
  .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 })
  .map((parts) => `/${parts.join('/')}`);
const step = fc.record({
  does: fc.constantFrom('set', 'set', 'set', 'add', 'add', 'remove', 'snapshot', 'release', 'arrange'),
  path,
  /** The number of the tree: 0 is the one of which snapshots are taken. */
  which: fc.nat(3),
});

describe('a tree and its snapshots', () => {
  test('each show only what was done to it, however many snapshots come and go', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
        const trees: { readonly tree: Tree; readonly model: Model }[] = [
          { tree: Tree.bare(), model: new Map([['/', '']]) },
        ];
        steps.forEach(({ does, path: at, which }, i) => {
          const { tree, model } = trees[which % trees.length];
          const content = { value: String(i), permissions, generation: i };
          if (does === 'snapshot') {
            if (trees.length < 4)
              trees.push({ tree: trees[0].tree.snapshot(), model: new Map(trees[0].model) });
          } else if (does === 'release') {
            if (which % trees.length > 0)
              trees[0].tree.release(trees.splice(which % trees.length, 1)[0].tree);
          } else if (does === 'set') {
            const there = model.has(at) ? at : '/';
            tree.set(there, content);
            model.set(there, content.value);
          } else if (does === 'add' && !model.has(at) && model.has(parentPath(at))) {
            tree.add(at, content);
            model.set(at, content.value);
          } else if (does === 'remove' && model.has(at)) {
            tree.remove(at);
            for (const other of [...model.keys()]) if (below(other, at)) model.delete(other);
          } else if (does === 'arrange' && model.has(at)) {
            tree.arrange(at, ['c', 'a'], content);
            for (const name of ['c', 'a']) {
              const child = childPath(at, name);
              const moved = [...model].filter(([other]) => below(other, child));
              for (const [other] of moved) model.delete(other);
              for (const [other, value] of moved.length > 0 ? moved : [[child, content.value] as const])
                model.set(other, value);
            }
            for (const other of [...model.keys()]) if (below(other, childPath(at, 'b'))) model.delete(other);
          }
          for (const each of trees) expect(dump(each.tree)).toEqual(dumpModel(each.model));
        });
      }),
      { numRuns: 100 },
    );
  });

  test('a node that no snapshot shares is changed in place, one that a snapshot shares is not', () => {
    const tree = Tree.bare();
    const content = { value: '1', permissions, generation: 1 };
    tree.add('/a', content);
    const n = tree.find('/a');
    tree.set('/a', { ...content, value: '2' });
    expect(tree.find('/a')).toBe(n);
    const snapshot = tree.snapshot();
    tree.set('/a', { ...content, value: '3' });
    expect([tree.find('/a')!.value, snapshot.find('/a')!.value]).toEqual(['3', '2']);
    const copy = tree.find('/a');
    tree.release(snapshot);
    tree.set('/a', { ...content, value: '4' });
    expect(tree.find('/a')).toBe(copy);
  });
});
