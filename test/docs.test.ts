import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { configurationDoc } from '../scripts/lib/configuration-doc.js';
import { migrationPointsDoc, streamDoc } from '../scripts/lib/docs.js';
import { protocolDoc } from '../scripts/lib/protocol-doc.js';
import { STREAM_LIMITS, STREAM_PARTS } from '../scripts/lib/stream-contents.js';
import { POINT_DESCRIPTIONS } from '../src/helper/points/all.js';
import { ROWS, rowsOf } from '../src/helper/points/rows.js';

const page = (name: string): string => readFileSync(new URL(`../docs/${name}`, import.meta.url), 'utf8');

describe('the documentation', () => {
  it('of migration points is what the source says (npm run docs writes it)', () => {
    expect(page('migration-points.md')).toBe(migrationPointsDoc(POINT_DESCRIPTIONS, ROWS, rowsOf));
  });

  it('of the stream is what the source says (npm run docs writes it)', () => {
    expect(page('stream.md')).toBe(streamDoc(STREAM_PARTS, STREAM_LIMITS));
  });

  it('of the protocol is what the source says (npm run docs writes it)', () => {
    expect(page('protocol.md')).toBe(protocolDoc());
  });

  it('of configurations is what the table of keys says (npm run docs writes it)', () => {
    expect(page('configuration.md')).toBe(configurationDoc());
  });

  it('has a point for every value that a move would change, and no others', () => {
    const covered = new Set(POINT_DESCRIPTIONS.flatMap((d) => rowsOf(d.rows)));
    expect([...covered].sort()).toEqual(Object.keys(ROWS).sort());
  });

  it('names tests that exist', () => {
    for (const { name, proof } of POINT_DESCRIPTIONS) {
      expect(proof.length, name).toBeGreaterThan(0);
      for (const one of proof) {
        const [file, ...test] = one.split(': ');
        const url = new URL(`../${file}`, import.meta.url);
        expect(existsSync(url), `${name}: ${file}`).toBe(true);
        expect(readFileSync(url, 'utf8'), `${name}: ${one}`).toContain(test.join(': '));
      }
    }
  });
});
