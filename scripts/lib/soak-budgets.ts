// The arguments of each soak, and how long it takes, in the run of all soaks (scripts/soak.ts): within an hour on two
// cores.

/** A soak with `alone` has both cores for itself; all others run two at a time. */
export interface SoakBudget {
  /** Minutes that it took on two cores; if it is not alone, minutes of one core. */
  readonly takes: number;
  /** Minutes after which it is ended as hung: at least half as long again as it takes. */
  readonly minutes: number;
  readonly args: readonly string[];
  readonly alone?: true;
  /** It boots a real Xen in an emulator: the run of all soaks leaves it out, and it runs only when named. */
  readonly apart?: true;
}

const BUDGETS: Readonly<Record<string, SoakBudget>> = {
  boot: { takes: 5, minutes: 15, args: [] },
  bootloader: { takes: 8, minutes: 25, args: [] },
  browser: { takes: 1, minutes: 6, args: [] },
  core: { takes: 1, minutes: 15, args: [] },
  cpu: { takes: 3, minutes: 8, args: ['1000000'], alone: true },
  crashes: { takes: 6, minutes: 20, args: ['50'] },
  debian: { takes: 2, minutes: 15, args: [] },
  disk: { takes: 2, minutes: 15, args: [] },
  // All targets together have this many seconds, however many there are.
  fuzz: { takes: 6, minutes: 10, args: ['360'] },
  guests: { takes: 12, minutes: 20, args: ['8'] },
  // Run by its name, it also does the cases in which somebody hangs or is slow, which take long to wait for.
  hangs: { takes: 1, minutes: 12, args: ['gone'] },
  hostile: { takes: 2, minutes: 15, args: [] },
  i386: { takes: 1, minutes: 15, args: [] },
  // Each of the ten kernels once, three moves. The full soak, twenty guests and two hundred moves, takes nine minutes.
  kernels: { takes: 4, minutes: 15, args: ['--short'] },
  moves: { takes: 7, minutes: 15, args: ['1000', '5'] },
  net: { takes: 1, minutes: 15, args: [] },
  node: { takes: 1, minutes: 8, args: ['--quick', '26.12.1'] },
  // Run by its name, it does a hundred for each clock source and number of vCPUs.
  outages: { takes: 8, minutes: 12, args: ['30'] },
  rings: { takes: 3, minutes: 10, args: [] },
  scenarios: { takes: 3, minutes: 20, args: [] },
  // Run by its name, it does a million lives.
  simulate: { takes: 12, minutes: 20, args: ['200000'] },
  tiers: { takes: 6, minutes: 25, args: ['--moved-in'], alone: true },
  twin: { takes: 3, minutes: 25, args: [] },
  xl: { takes: 6, minutes: 15, args: [], apart: true },
  xen: { takes: 25, minutes: 40, args: [], apart: true },
};

/** Returns the budget of soak/NAME.ts. Throws if it has none. */
export function budgetOf(name: string): SoakBudget {
  const budget = Object.hasOwn(BUDGETS, name) ? BUDGETS[name] : undefined;
  if (budget === undefined) throw new Error(`scripts/lib/soak-budgets.ts has no budget for soak/${name}.ts`);
  return budget;
}

/** The names of all soaks with a budget. */
export const budgeted = (): readonly string[] => Object.keys(BUDGETS);

/**
 * Minutes that all these soaks take: those that run alone one after another, the others two at a time, the longest
 * first.
 */
export function minutesOfAll(names: readonly string[]): number {
  const budgets = names.map(budgetOf).filter((budget) => budget.apart !== true);
  const alone = budgets.filter((budget) => budget.alone).reduce((sum, { takes }) => sum + takes, 0);
  const cores = [0, 0];
  for (const { takes } of budgets.filter((budget) => !budget.alone).sort((a, b) => b.takes - a.takes))
    cores[cores[0] <= cores[1] ? 0 : 1] += takes;
  return alone + Math.max(...cores);
}
