/** Parsers for the values of options; an error names the option. */
import { InvalidArgumentError } from 'commander';

/** The longest time that a timer of Node can wait, s. */
export const MAX_TIMEOUT_S = 2_147_483;

/** A whole number in decimal digits. */
export const whole =
  (low: number, high: number) =>
  (text: string): number => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high))
      throw new InvalidArgumentError(`a whole number from ${low} to ${high} is expected.`);
    return value;
  };

/** A number that may have a fraction. */
export const decimal =
  (low: number, high: number) =>
  (text: string): number => {
    const value = /^\d{1,16}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high))
      throw new InvalidArgumentError(`a number from ${low} to ${high} is expected.`);
    return value;
  };

/** One of several words. */
export const oneOf =
  <T extends string>(...words: readonly T[]) =>
  (text: string): T => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw new InvalidArgumentError(`one of ${words.join(', ')} is expected.`);
    return found;
  };
