/**
 * One half of the ten thousand short lives; the other half is in a file of its own, so that two processors share them.
 */
import { expect, it } from 'vitest';
import { liveThrough } from './many.js';

it('five thousand simulated lives leave every guest in one place, and nothing else', async () => {
  const answers = await liveThrough(5001, 5000);
  // All of these really happened, and often enough.
  const done = (verb: string): number => answers.get(`${verb}: ok`) ?? 0;
  for (const verb of ['create', 'migrate', 'destroy', 'save', 'reboot', 'pause'])
    expect(done(verb), verb).toBeGreaterThan(100);
  for (const verb of ['restore', 'cancelMove', 'shutdown']) expect(done(verb), verb).toBeGreaterThan(10);
  expect(answers.get('migrate: move-failed')).toBeGreaterThan(100);
  expect(answers.get('migrate: daemon died')).toBeGreaterThan(10);
}, 300_000);
