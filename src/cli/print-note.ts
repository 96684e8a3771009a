/** Messages of ours that are not results. */
import { printableLines } from '../protocol/printable.js';

/**
 * Prints a message that is not a result to standard error. Its text may come from others, like that of an error, so
 * it is escaped.
 */
export const printNote = (text: string): void => {
  process.stderr.write(`stillpoint: ${printableLines(text)}\n`);
};
