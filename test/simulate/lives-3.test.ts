/** Short lives of guests that are defined, and of some that are started with their hosts; more are lost than in others. */
import { expect, it } from 'vitest';
import { definedLifeOf } from './life.js';
import { liveThrough } from './many.js';

it('guests that are defined stay known, and those that are started with their hosts come back', async () => {
  const answers = await liveThrough(1, 600, definedLifeOf);
  const done = (verb: string): number => answers.get(`${verb}: ok`) ?? 0;
  for (const verb of ['define', 'start', 'autostart', 'undefine'])
    expect(done(verb), verb).toBeGreaterThan(20);
}, 300_000);
