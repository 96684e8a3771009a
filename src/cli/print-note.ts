/** Words of ours that are no result, for people. */
import { printableLines } from '../protocol/printable.js';

/** To standard error: what is no result. Others may have had a hand in its words, as in those of a failure. */
export const printNote = (text: string): void => {
  process.stderr.write(`stillpoint: ${printableLines(text)}\n`);
};
