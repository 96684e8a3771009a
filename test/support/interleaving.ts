/**
 * Runs code whose threads share words, in every order that its accesses can have. The code is the real one: it gets
 * words that stop it at each access. What a thread does next follows from the results of its accesses so far; so a
 * thread that was stopped is run again from its beginning with those results, and stopped one access later. Each such
 * history is run once, and equal states (words and histories) are continued from once.
 *
 * Plain reads and writes that follow one another are one step. If two threads are about to do such steps that touch the
 * same word, and one of them writes it, nothing orders the two: that is a race. Without races there are no other orders
 * than those tried here, because the other accesses are sequentially consistent.
 */
import type { SharedWords } from '../../src/host/disk/shared-words.js';

type Kind =
  | 'load'
  | 'store'
  | 'add'
  | 'exchange'
  | 'compareExchange'
  | 'wait'
  | 'notify'
  | 'read'
  | 'write'
  | 'receive';

interface Access {
  readonly kind: Kind;
  readonly at: number;
  readonly value: number;
  readonly expected: number;
}

/** A thread's program. It is called many times: it may use only what it was given, and has to do the same each time. */
export type Program = (thread: ModelThread) => void;

export interface ModelThread {
  readonly words: SharedWords;
  /** Sends a message to whoever receives from box `to`. */
  post(to: number): void;
  /** Waits for a message. */
  receive(from: number): void;
  /** Keeps a value with this history, for the check at the end. */
  note(what: string): void;
}

/** What a thread has seen so far, and what it does next; `undefined`: it has ended. */
class History {
  private readonly later = new Map<number, History>();
  private constructor(
    readonly id: number,
    readonly next: Access | undefined,
    readonly notes: readonly string[],
    private readonly results: readonly number[],
    private readonly program: Program,
    private readonly count: { n: number },
  ) {}

  static begin(program: Program, count = { n: 0 }, results: readonly number[] = []): History {
    const { next, notes } = replay(program, results);
    return new History(count.n++, next, notes, results, program, count);
  }

  after(result: number): History {
    let history = this.later.get(result);
    if (history === undefined) {
      history = History.begin(this.program, this.count, [...this.results, result]);
      this.later.set(result, history);
    }
    return history;
  }
}

class Stop extends Error {}

function replay(program: Program, results: readonly number[]): { next: Access | undefined; notes: string[] } {
  let done = 0;
  let next: Access | undefined;
  const notes: string[] = [];
  const access = (kind: Kind, at: number, value = 0, expected = 0): number => {
    if (done < results.length) return results[done++];
    next = { kind, at, value, expected };
    throw new Stop();
  };
  const words: SharedWords = {
    load: (at) => access('load', at),
    store: (at, value) => void access('store', at, value),
    add: (at, value) => access('add', at, value),
    exchange: (at, value) => access('exchange', at, value),
    compareExchange: (at, expected, value) => access('compareExchange', at, value, expected),
    wait: (at, value) => void access('wait', at, 0, value),
    notify: (at, count) => void access('notify', at, count),
    read: (at) => access('read', at),
    write: (at, value) => void access('write', at, value),
  };
  try {
    program({
      words,
      post: (to) => void access('add', -1 - to, 1),
      receive: (from) => void access('receive', -1 - from),
      note: (what) => notes.push(what),
    });
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
  }
  return { next, notes };
}

interface State {
  /** Atomic words, then plain ones, in the order in which they were first used. */
  readonly words: Int32Array;
  readonly threads: readonly History[];
  /** The word on which a thread sleeps; NOBODY: it does not sleep. */
  readonly asleep: readonly number[];
}

const NOBODY = Number.MIN_SAFE_INTEGER;
/** The greatest number of different words that the programs of one run may use. */
const MOST_WORDS = 96;

const isPlain = (access: Access | undefined): boolean => access?.kind === 'read' || access?.kind === 'write';

export interface Explored {
  /** The number of different states, and of those in which all threads had ended. */
  readonly states: number;
  readonly ends: number;
}

/**
 * Tries all orders. `prepare` runs alone before the others; a program that is given twice is two threads. Throws if
 * accesses race, if a program throws, if no thread can continue, if there are more states than `mostStates`, and
 * whatever `check` throws at an end; `check` gets the notes of each program.
 */
export function everyOrder(
  prepare: Program,
  programs: readonly Program[],
  check: (notes: readonly (readonly string[])[]) => void,
  mostStates = 200_000,
): Explored {
  const places = new Map<number, number>();
  const placeOf = (at: number): number => {
    let place = places.get(at);
    if (place === undefined) {
      place = places.size;
      if (place === MOST_WORDS) throw new RangeError('too many words');
      places.set(at, place);
    }
    return place;
  };
  const count = { n: 0 };
  const roots = new Map<Program, History>();
  const root = (program: Program): History => {
    const history = roots.get(program) ?? History.begin(program, count);
    roots.set(program, history);
    return history;
  };

  /** Does the next step of a thread; `touch` is called for plain accesses. */
  const step = (s: State, i: number, touch?: (at: number, writes: boolean) => void): State => {
    const words = s.words.slice();
    let history = s.threads[i];
    const asleep = [...s.asleep];
    if (isPlain(history.next)) {
      for (let next = history.next; isPlain(next); next = history.next) {
        const { kind, at, value } = next as Access;
        const place = placeOf(at);
        touch?.(place, kind === 'write');
        if (kind === 'write') words[place] = value;
        history = history.after(kind === 'write' ? 0 : words[place]);
      }
    } else {
      const { kind, at, value, expected } = history.next as Access;
      const place = placeOf(at);
      const old = words[place];
      if (kind === 'store' || kind === 'exchange') words[place] = value;
      else if (kind === 'add') words[place] = old + value;
      else if (kind === 'receive') words[place] = old - 1;
      else if (kind === 'compareExchange' && old === expected) words[place] = value;
      else if (kind === 'wait' && old === expected) asleep[i] = place;
      else if (kind === 'notify')
        for (let j = 0, left = value; j < asleep.length && left > 0; j++)
          if (asleep[j] === place) {
            asleep[j] = NOBODY;
            left--;
          }
      const silent = kind === 'store' || kind === 'wait' || kind === 'notify' || kind === 'receive';
      history = history.after(silent ? 0 : old);
    }
    return { words, threads: s.threads.map((one, j) => (i === j ? history : one)), asleep };
  };
  const canGoOn = (s: State, i: number): boolean => {
    const { next } = s.threads[i];
    if (next === undefined || s.asleep[i] !== NOBODY) return false;
    return next.kind !== 'receive' || s.words[placeOf(next.at)] > 0;
  };
  const races = (s: State): void => {
    const touched = new Map<number, { by: number; writes: boolean }[]>();
    for (let i = 0; i < s.threads.length; i++) {
      if (!isPlain(s.threads[i].next)) continue;
      step(s, i, (at, writes) => touched.set(at, [...(touched.get(at) ?? []), { by: i, writes }]));
    }
    for (const [place, all] of touched)
      for (const a of all)
        for (const b of all)
          if (a.by !== b.by && a.writes) {
            const at = [...places].find(([, p]) => p === place)?.[0];
            throw new Error(`threads ${a.by} and ${b.by} race for word ${at}`);
          }
  };
  // Threads with the same program are interchangeable: which of them is which makes no other state.
  const keyOf = (s: State): string =>
    `${s.words.subarray(0, places.size).join()}|${s.threads
      .map(({ id }, i) => `${id}${s.asleep[i] === NOBODY ? '' : 's'}`)
      .sort()
      .join()}`;

  let start: State = { words: new Int32Array(MOST_WORDS), threads: [root(prepare)], asleep: [NOBODY] };
  while (start.threads[0].next !== undefined) start = step(start, 0);
  const seen = new Set<string>();
  const todo: State[] = [{ ...start, threads: programs.map(root), asleep: programs.map(() => NOBODY) }];
  let ends = 0;
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    const key = keyOf(state);
    if (seen.has(key)) continue;
    seen.add(key);
    if (seen.size > mostStates) throw new RangeError(`more than ${mostStates} states`);
    races(state);
    let any = false;
    for (let i = 0; i < programs.length; i++) {
      if (!canGoOn(state, i)) continue;
      any = true;
      todo.push(step(state, i));
    }
    if (any) continue;
    ends++;
    const stuck = state.threads.flatMap(({ next }, i) =>
      next === undefined ? [] : [`${i}: ${next.kind} ${next.at}`],
    );
    if (stuck.length > 0) throw new Error(`nobody can go on: ${stuck.join(', ')}`);
    check(state.threads.map(({ notes }) => notes));
  }
  return { states: seen.size, ends };
}
