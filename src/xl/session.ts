/** What the verbs of `xl` share: the daemon, the domains, Domain-0, and how a verb ends. */
import type { Client, DomainRow } from '../client/index.js';
import { Failure } from '../protocol/failure.js';
import { printable, printableLines } from '../protocol/printable.js';
import { DOM0_NAME, DOM0_UUID, type Machine } from './machine.js';

/** What `xl` uses of the program that it is part of. */
export interface XlAround {
  out(text: string): void;
  err(text: string): void;
  connect(): Promise<Client>;
  /** Shows a guest's console on this terminal; resolves when it is left. */
  console(uuid: string): Promise<void>;
  readonly machine: Machine;
}

/** Exit statuses of xl: EXIT_FAILURE, and what wrong arguments end with. */
export const FAILED = 1;
export const USAGE = 2;
/** Error numbers of libxl, as xl prints them. */
export const ERROR_FAIL = -3;
export const ERROR_INVAL = -6;
export const ERROR_TIMEDOUT = -9;
export const ERROR_DOMAIN_NOTFOUND = -21;

/** Ends the verb with a status; `words` go to standard error. */
export class XlEnd extends Error {
  constructor(
    readonly status: number,
    readonly words: string,
  ) {
    super(words);
  }
}

/** A domain that a verb names. */
export interface Target {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** Undefined for Domain-0, and for a number that no domain has. */
  readonly row: DomainRow | undefined;
}

export class Session {
  private connected: Client | undefined;

  constructor(readonly around: XlAround) {}

  /** Prints a line of results; what a guest has chosen of it is escaped. */
  line(text: string): void {
    this.around.out(`${printable(text)}\n`);
  }
  /** The same with line breaks and tabs that are ours. */
  lines(text: string): void {
    this.around.out(printableLines(text));
  }
  say(text: string): void {
    this.around.err(`${printableLines(text)}\n`);
  }

  /** Throws XlEnd if no daemon answers. */
  async client(): Promise<Client> {
    try {
      this.connected ??= await this.around.connect();
      return this.connected;
    } catch (error) {
      throw new XlEnd(FAILED, `${messageOf(error)}\ncannot init xl context`);
    }
  }
  close(): void {
    this.connected?.close();
  }

  /** The guests of this host, the lowest id first. */
  async guests(): Promise<DomainRow[]> {
    const rows = await (await this.client()).list();
    return rows.toSorted((a, b) => a.domid - b.domid);
  }

  /** The domain that has this id or name. As with libxl, an id is not looked up. Throws XlEnd. */
  async find(called: string): Promise<Target> {
    const found = await this.named(called);
    if (found !== undefined) return found;
    throw new XlEnd(FAILED, `${called} is an invalid domain identifier (rc=${ERROR_INVAL})`);
  }

  async named(called: string): Promise<Target | undefined> {
    const id = /^\d+$/.test(called) ? Number(called) : undefined;
    if (id === 0 || called === DOM0_NAME) return DOM0;
    const row = (await this.guests()).find(({ domid, name }) =>
      id === undefined ? name === called : domid === id,
    );
    if (row !== undefined) return { domid: row.domid, name: row.name, uuid: row.uuid, row };
    return id === undefined ? undefined : { domid: id, name: called, uuid: '', row: undefined };
  }

  /** A guest that exists. Throws XlEnd; `words`: what xl says where an id has no domain. */
  async guest(called: string, words?: string): Promise<Target & { readonly row: DomainRow }> {
    const { row, ...found } = await this.find(called);
    if (row !== undefined) return { ...found, row };
    throw new XlEnd(FAILED, words ?? `libxl: error: Domain ${found.domid}:Domain does not exist`);
  }

  /**
   * Does something by the daemon. If that fails, the reason is printed as a line of libxl, then `words` as xl's own,
   * and the verb ends with `status`. `misread`: how it ends if what was given could not be read.
   */
  async by<T>(
    what: (client: Client) => Promise<T>,
    words: string | ((rc: number) => string),
    status = FAILED,
    misread?: (words: string, error: unknown) => XlEnd | undefined,
  ): Promise<T> {
    const client = await this.client();
    try {
      return await what(client);
    } catch (error) {
      const end = misread?.(messageOf(error), error);
      if (end !== undefined) throw end;
      const own = typeof words === 'string' ? words : words(resultOf(error));
      const because = `libxl: error: ${messageOf(error)}`;
      throw new XlEnd(status, own === '' ? because : `${because}\n${own}`);
    }
  }
}

export const DOM0: Target = { domid: 0, name: DOM0_NAME, uuid: DOM0_UUID, row: undefined };

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The number that libxl has for such a failure. */
function resultOf(error: unknown): number {
  if (!(error instanceof Failure)) return ERROR_FAIL;
  if (error.code === 'timed-out') return ERROR_TIMEDOUT;
  return error.code === 'usage' || error.code === 'bad-config' ? ERROR_INVAL : ERROR_FAIL;
}
