import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Children, noChildren } from './children.js';

type Step = readonly ['with' | 'without', number];

/** Names from a small set: so the tests come to nodes of every size. */
const name = (n: number): string => `n${n}`;

describe('the children of a node', () => {
  test('are those that were added and not removed, in the order of adding, at every size', () => {
    const step: fc.Arbitrary<Step> = fc.tuple(
      fc.constantFrom('with' as const, 'with' as const, 'without' as const),
      fc.nat(60),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        let children: Children<number> = noChildren();
        const model = new Map<string, number>();
        let count = 0;
        for (const [what, n] of steps) {
          const key = name(n);
          if (what === 'with') {
            children = children.with(key, ++count);
            model.set(key, count);
          } else {
            children = children.without(key);
            model.delete(key);
          }
        }
        expect(children.names()).toEqual([...model.keys()]);
        expect(children.size).toBe(model.size);
        expect(children.list()).toBe([...model.keys()].map((k) => `${k}\0`).join(''));
        expect(children.bytes).toBe(children.list().length);
        for (let n = 0; n <= 60; n++) expect(children.get(name(n))).toBe(model.get(name(n)));
      }),
    );
  });

  test('an older version does not change when a newer one is made from it', () => {
    let children: Children<number> = noChildren();
    const versions = [children];
    for (let n = 0; n < 300; n++) {
      children = children.with(name(n), n);
      versions.push(children);
    }
    for (let n = 0; n < 300; n += 3) children = children.without(name(n)).with(name(n + 1), -1);
    versions.forEach((version, size) => {
      expect(version.size).toBe(size);
      expect(version.names()).toEqual(Array.from({ length: size }, (_, n) => name(n)));
      if (size > 0) expect(version.get(name(size - 1))).toBe(size - 1);
    });
  });

  test('names with the same hash are distinguished', () => {
    // Found by search: 32-bit FNV-1a with this file's final mix gives both the same value.
    const [a, b] = collision();
    let children: Children<string> = noChildren();
    for (let n = 0; n < 20; n++) children = children.with(name(n), name(n));
    children = children.with(a, 'a').with(b, 'b');
    expect([children.get(a), children.get(b)]).toEqual(['a', 'b']);
    children = children.with(a, 'A').without(b);
    expect([children.get(a), children.get(b), children.size]).toEqual(['A', undefined, 21]);
    expect(children.without(a).get(a)).toBeUndefined();
  });
});

/** Returns two names with the same hash, by a birthday search over the hash as the trie computes it. */
function collision(): [string, string] {
  const seen = new Map<number, string>();
  for (let n = 0; ; n++) {
    const key = n.toString(36);
    let h = 0x811c9dc5;
    for (let i = 0; i < key.length; i++) h = Math.imul(h ^ key.charCodeAt(i), 0x01000193);
    h ^= h >>> 15;
    const other = seen.get(h);
    if (other !== undefined) return [other, key];
    seen.set(h, key);
  }
}
