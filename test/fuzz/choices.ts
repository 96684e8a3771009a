/**
 * An input of a fuzz target: a list of choices. Whatever a target makes of them could be sent by somebody, so an input
 * that is changed at any place is still an input.
 */
import type { Random } from '../twin/random.js';

export class Choices {
  /** All choices that were made, including those that the list did not have. */
  readonly made: number[] = [];

  constructor(
    private readonly given: readonly number[],
    private readonly random: Random,
    /** The greatest number of choices; after it every choice is 0. */
    private readonly most: number,
  ) {}

  get over(): boolean {
    return this.made.length >= this.most;
  }

  /** A choice of 32 bits. */
  word(): number {
    const at = this.made.length;
    if (at >= this.most) return 0;
    const value = at < this.given.length ? this.given[at] : this.random.next();
    this.made.push(value);
    return value;
  }
  below(n: number): number {
    return this.word() % n;
  }
  /** True once in `n`. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
}

/** Returns another input, similar to this one. */
export function mutated(list: readonly number[], other: readonly number[], random: Random): number[] {
  const out = [...list];
  for (let n = 1 + random.below(4); n > 0; n--) {
    const at = random.below(out.length + 1);
    switch (random.below(6)) {
      case 0:
        out[at] = random.next();
        break;
      case 1:
        out[at] = ((out[at] ?? 0) + random.below(33) - 16) >>> 0;
        break;
      case 2:
        out[at] = ((out[at] ?? 0) ^ (1 << random.below(32))) >>> 0;
        break;
      case 3:
        out.splice(at, random.below(8));
        break;
      case 4:
        out.splice(at, 0, ...out.slice(at, at + random.below(16)));
        break;
      default:
        out.splice(at, out.length - at, ...other.slice(random.below(other.length + 1)));
    }
  }
  return out;
}
