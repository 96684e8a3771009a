/** Fuzzing with coverage feedback: inputs that take new paths through our code are kept, and changed further. */
import { Random } from '../twin/random.js';
import { Choices, mutated } from './choices.js';
import { Coverage } from './coverage.js';

export interface Target {
  readonly name: string;
  /** The files whose coverage guides it. */
  readonly files: RegExp;
  /** The greatest number of choices in one input. */
  readonly most: number;
  /** Makes an input from the choices and runs it. Throws if something that must be true is not. */
  run(choices: Choices): void | Promise<void>;
}

export interface FuzzResult {
  readonly inputs: number;
  readonly kept: number;
  readonly ways: number;
  /** The failure, with the input. */
  readonly failures: readonly string[];
}

/** One in so many inputs starts from nothing. */
const FRESH = 16;
/** The number of inputs between two measurements of coverage: a measurement costs as much as some inputs. */
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
