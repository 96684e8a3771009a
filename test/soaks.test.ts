import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { budgeted, budgetOf, minutesOfAll } from '../scripts/lib/soak-budgets.js';

const soaks = readdirSync(new URL('../soak', import.meta.url))
  .filter((file) => /^[\w-]+[.]ts$/.test(file))
  .map((file) => file.slice(0, -3))
  .sort();

it('each soak has a budget, and there are no other budgets', () => {
  expect([...budgeted()].sort()).toEqual(soaks);
});

it('no soak is ended at the time that it normally takes', () => {
  for (const name of soaks) {
    const { takes, minutes } = budgetOf(name);
    expect(minutes, name).toBeGreaterThanOrEqual(1.5 * takes);
  }
});

it('all soaks together take less than an hour on two cores', () => {
  expect(minutesOfAll(soaks)).toBeLessThan(60);
});

it('the seconds of fuzz and the minutes of moves are within their budgets', () => {
  expect(Number(budgetOf('fuzz').args[0]) / 60).toBeLessThanOrEqual(budgetOf('fuzz').takes);
  expect(Number(budgetOf('moves').args[1])).toBeLessThan(budgetOf('moves').takes);
});
