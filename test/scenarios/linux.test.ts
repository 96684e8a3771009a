/** The scenarios of docs/scenarios.md on one real Linux, which goes through all of them. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { orSkipped } from '../support/debian.js';
import { deviceScenarios } from './devices.js';
import { mixedScenarios } from './mixed.js';
import { silentScenarios } from './silent.js';
import { timeScenarios } from './time.js';
import { ScenarioWorld } from './world.js';

let world: ScenarioWorld | undefined;
const guests: Guests | undefined = await orSkipped('the scenarios of a Linux', ensureGuests());

// A soak moves it a thousand times.
const HOURS = process.env['STILLPOINT_SCENARIO_MOVES'] === undefined ? 0.1 : 4;
vi.setConfig({ testTimeout: HOURS * 3_600_000, hookTimeout: 900_000 });

describe.skipIf(guests === undefined)('Linux, wild, with a disk and a network', () => {
  beforeAll(async () => {
    world = await ScenarioWorld.open(guests as Guests);
  });
  afterAll(() => world?.close());
  const get = () => world as ScenarioWorld;

  silentScenarios(get);
  deviceScenarios(get);
  mixedScenarios(get);
  timeScenarios(get);

  it('shuts down after all of this when it is asked to', async () => {
    const w = get();
    w.guest.type('poweroff -f\n');
    await expect(w.guest.until(/never printed/, 60)).rejects.toThrow(/ended: {"kind":"poweroff","code":0}/);
  });
});
