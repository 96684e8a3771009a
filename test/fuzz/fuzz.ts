/** Fuzzing with coverage feedback: inputs that go new ways through our code are kept, and changed further. */
import { Random } from '../twin/random.js';
import { Choices, mutated } from './choices.js';
import { Coverage } from './coverage.js';

export interface Target {
  readonly name: string;
  /** Files whose coverage guides it. */
  readonly files: RegExp;
  /** Choices of one input at most. */
  readonly most: number;
  /** Makes one input of the choices and does it. Throws where something that must hold does not. */
  run(choices: Choices): void | Promise<void>;
}

export interface FuzzResult {
  readonly inputs: number;
  readonly kept: number;
  readonly ways: number;
  /** What went wrong, with the input. */
  readonly failures: readonly string[];
}

/** One in so many inputs begins from nothing. */
const FRESH = 16;
/** Inputs between two looks at the coverage: a look costs as much as some inputs. */
const TOGETHER = 4;
const MOST_FAILURES = 5;

export async function fuzz(
  target: Target,
  seed: number,
  enough: (inputs: number) => boolean,
): Promise<FuzzResult> {
  const random = new Random(seed);
  const coverage = new Coverage(target.files);
  const corpus: number[][] = [];
  const failures: string[] = [];
  let inputs = 0;
  let batch: number[][] = [];
  while (!enough(inputs) && failures.length < MOST_FAILURES) {
    const parent = corpus.length === 0 || random.below(FRESH) === 0 ? [] : random.pick(corpus);
    const given = parent.length === 0 ? [] : mutated(parent, random.pick(corpus), random);
    const choices = new Choices(given, random, target.most);
    try {
      await target.run(choices);
    } catch (error) {
      failures.push(`input ${inputs} ${JSON.stringify(choices.made)}: ${(error as Error).stack}`);
    }
    batch.push(choices.made);
    if (++inputs % TOGETHER === 0) {
      if (coverage.fresh() > 0) corpus.push(...batch);
      batch = [];
    }
  }
  const { ways } = coverage;
  coverage.close();
  return { inputs, kept: corpus.length, ways, failures };
}
