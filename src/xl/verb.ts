/** A verb of `xl`: one row of the table in verbs.ts. */
import type { XlOption } from './options.js';
import type { Session } from './session.js';

export interface XlCall {
  readonly session: Session;
  readonly rest: readonly string[];
  /** How often an option was given. */
  count(letter: string): number;
  has(letter: string): boolean;
  /** The last value of an option. */
  value(letter: string): string | undefined;
  /** `-N`, or `-n` of `create`: only what would be done is printed. */
  readonly dryRun: boolean;
  /** Prints a verb's help, as after wrong arguments. */
  help(name: string): void;
}

export interface XlVerb {
  readonly name: string;
  /** Whether it changes something, and whether it has a dry run: for its help. */
  readonly modifies: boolean;
  readonly dryRun: boolean;
  readonly about: string;
  readonly usage: string;
  readonly options: readonly XlOption[];
  /** With fewer words it ends with status 2. */
  readonly least: number;
  /** Resolves with the exit status. */
  run(call: XlCall): Promise<number>;
}
